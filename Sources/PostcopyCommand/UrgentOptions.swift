internal import ArgumentParser
internal import Postcopy

/// The channel of the pages that somebody waits for, as the destination expects it.
struct UrgentOptions: ParsableArguments {
    @Flag(help: "Sends urgent pages in the one channel instead of one of their own.")
    var noPreempt = false

    @Option(
        help: """
            When the urgent channel connects: \(Choices.text(PreemptTiming.self)). (default: as a \
            QEMU of the machine type's version expects it)
            """,
        transform: Choices.parser(PreemptTiming.self, "timing"))
    var preemptTiming: PreemptTiming?

    func timing(for machineType: String) -> PreemptTiming {
        preemptTiming ?? PreemptTiming(machineType: machineType)
    }
}

extension ChannelAddress {
    /// - Throws: `Refusal` where nobody can listen.
    func checkIsTarget() throws {
        guard case .tcp(_, 0) = self else { return }
        throw Refusal.usage("port 0 cannot be connected to: give the port that the other side has")
    }
}
