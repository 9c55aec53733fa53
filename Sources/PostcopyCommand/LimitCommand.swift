internal import ArgumentParser
internal import Postcopy

/// `postcopy limit`: changes what a running migration may take.
struct LimitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "limit",
        abstract: "Changes what a running source may take of the link, and of the guest's time.",
        discussion: """
            What is left out stays as it is; 'none' lifts a limit. A bandwidth holds at once, a downtime \
            limit from the end of the round on. 'postcopy status' says what is in force.
            """)

    @Option(
        parsing: .unconditional,
        help: "Bytes per second until the guest moves: 200MB/s, 1G, none.",
        transform: LimitValue.parser(ByteRate.init(parsing:)) { $0.bytesPerSecond })
    var maxBandwidth: LimitValue?

    @Option(
        parsing: .unconditional,
        help: "The same once it has moved; pages that it waits for are not held back.",
        transform: LimitValue.parser(ByteRate.init(parsing:)) { $0.bytesPerSecond })
    var maxPostcopyBandwidth: LimitValue?

    @Option(
        parsing: .unconditional,
        help: "How long the guest may be stopped so that the rest is sent and nothing follows.",
        transform: LimitValue.parser(TimeSpan.init(parsing:)) { $0.nanoseconds })
    var downtimeLimit: LimitValue?

    @OptionGroup var target: ControlTarget

    func run() throws {
        let change = LimitChange(
            maxBandwidth: maxBandwidth, maxPostcopyBandwidth: maxPostcopyBandwidth,
            downtimeLimitNs: downtimeLimit)
        guard !change.isEmpty else {
            throw Refusal.usage(
                "nothing to change: give --max-bandwidth, --max-postcopy-bandwidth or "
                    + "--downtime-limit")
        }
        let answer = try target.ask(ControlRequest(.limit, limits: change))
        print("\(answer.place) is limited: \(answer.limits?.text ?? "as asked")")
    }
}
