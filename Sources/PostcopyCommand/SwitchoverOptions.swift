internal import ArgumentParser
internal import Postcopy

/// What is sent while the workload runs at the source, and when it moves.
struct SwitchoverOptions: ParsableArguments {
    @Flag(help: "Moves the workload after the warm-up; all of its memory follows.")
    var noPrecopy = false

    @Option(
        parsing: .unconditional,
        help:
            "Moves it when memory has been sent for so long; no other rule moves it by itself then.",
        transform: TimeSpan.init(parsing:))
    var switchAfter: TimeSpan?

    @Option(
        parsing: .unconditional,
        help:
            "Moves it after so many rounds through memory; no other rule moves it by itself then.",
        transform: WholeNumber.parser("give 1 or more"))
    var switchAfterRounds: UInt64?

    @Option(
        parsing: .unconditional,
        help: """
            How long the workload may be stopped so that the rest is sent and nothing follows. \
            (default: 300ms, or never with --switch-after)
            """,
        transform: TimeSpan.init(parsing:))
    var downtimeLimit: TimeSpan?

    @Flag(
        help: """
            Slows the vCPUs while they dirty more than half of what is sent, until the rest fits into \
            the downtime limit.
            """)
    var autoConverge = false

    @Option(
        parsing: .unconditional,
        help: "The first throttle, 1 to 99 percent of their time. (default: 20)",
        transform: WholeNumber.parser("give 1 to 99, as percent"))
    var throttleInitial: UInt64?

    @Option(
        parsing: .unconditional, help: "What each further throttle adds, in percent. (default: 10)",
        transform: WholeNumber.parser("give 1 to 99, as percent"))
    var throttleIncrement: UInt64?

    @Option(
        parsing: .unconditional,
        help: "The most that they are throttled, in percent. (default: 99)",
        transform: WholeNumber.parser("give 1 to 99, as percent"))
    var throttleMax: UInt64?

    @Flag(help: "Gives the source's memory back as it is sent, once the workload has moved.")
    var releaseRam = false

    /// Whether nothing was said of when the workload moves.
    var isUsual: Bool {
        !noPrecopy && switchAfter == nil && switchAfterRounds == nil && downtimeLimit == nil
            && !autoConverge
    }

    /// - Throws: `Refusal` for values that no precopy can have.
    func apply(to options: inout MigrationOptions, warmUp: TimeSpan) throws {
        options.releasesRAM = releaseRam
        try checkCombinations()
        guard !noPrecopy else { return }
        var precopy = PrecopyOptions()
        precopy.warmUpNanoseconds = warmUp.nanoseconds
        do throws(PrecopySettingsError) {
            precopy.switchover = try switchover()
            precopy.autoConverge = autoConverge ? try converge() : nil
        } catch {
            throw Refusal.usage("\(error)")
        }
        options.precopy = precopy
    }

    private func switchover() throws(PrecopySettingsError) -> SwitchoverSettings {
        let isByHand = switchAfter != nil || switchAfterRounds != nil
        let usual = isByHand ? nil : SwitchoverSettings.usual.downtimeLimitNanoseconds
        return try SwitchoverSettings(
            downtimeLimitNanoseconds: downtimeLimit?.nanoseconds ?? usual,
            switchAfterNanoseconds: switchAfter?.nanoseconds,
            switchAfterRounds: switchAfterRounds,
            // Who asks for a throttle wants to stay until it has worked.
            isAutomatic: !isByHand && !autoConverge)
    }

    private func converge() throws(PrecopySettingsError) -> AutoConverge.Settings {
        let usual = AutoConverge.Settings.usual
        return try AutoConverge.Settings(
            initialPercent: throttleInitial ?? usual.initialPercent,
            incrementPercent: throttleIncrement ?? usual.incrementPercent,
            maxPercent: throttleMax ?? usual.maxPercent)
    }

    private func checkCombinations() throws {
        let needsPrecopy: [(name: String, isGiven: Bool)] = [
            ("--switch-after", switchAfter != nil),
            ("--switch-after-rounds", switchAfterRounds != nil),
            ("--downtime-limit", downtimeLimit != nil), ("--auto-converge", autoConverge),
        ]
        if noPrecopy, let first = needsPrecopy.first(where: \.isGiven) {
            throw Refusal.usage(
                "\(first.name) is for a precopy and --no-precopy says that there is none: give one "
                    + "of them")
        }
        let throttles = [throttleInitial, throttleIncrement, throttleMax]
        if !autoConverge, throttles.contains(where: { $0 != nil }) {
            throw Refusal.usage(
                "--throttle-initial, -increment and -max need --auto-converge: give it too, or none"
            )
        }
    }
}
