internal import ArgumentParser
internal import Parking
internal import Postcopy

/// What a QEMU at the other end expects of a source.
struct QEMUOptions: ParsableArguments {
    @Flag(help: "The destination has postcopy-preempt off: sends urgent pages in the one channel.")
    var noPreempt = false

    @Option(
        help: """
            When the urgent channel connects: \(Choices.text(PreemptTiming.self)). (default: as the \
            machine type's version says, at-setup up to 7.2)
            """,
        transform: Choices.parser(PreemptTiming.self, "timing"))
    var preemptTiming: PreemptTiming?

    func apply(to options: MigrationOptions, for machine: ParkedMachine) -> MigrationOptions {
        var options = options
        options.preempt = !noPreempt
        options.preemptTiming = preemptTiming ?? PreemptTiming(machineType: machine.machineType)
        return options
    }
}

extension ChannelAddress {
    /// - Throws: `Refusal` where nobody can listen.
    func checkIsTarget() throws {
        guard case .tcp(_, 0) = self else { return }
        throw Refusal.usage(
            "port 0 cannot be connected to: give the port that the other side listens at")
    }
}
