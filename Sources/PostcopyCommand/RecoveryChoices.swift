internal import ArgumentParser
internal import Postcopy

/// What follows when the link breaks once the guest has moved.
struct RecoveryChoices: ParsableArguments {
    @Option(
        help: """
            What follows when the link breaks once the workload has moved: \
            \(Choices.text(RecoveryOptions.Mode.self)). (default: auto)
            """,
        transform: Choices.parser(RecoveryOptions.Mode.self, "recovery"))
    var recover: RecoveryOptions.Mode?

    private var mode: RecoveryOptions.Mode { recover ?? .automatic }

    @Option(
        parsing: .unconditional,
        help: """
            How long the source comes back by itself before it waits for 'postcopy recover'. \
            (default: 5m)
            """,
        transform: TimeSpan.init(parsing:))
    var recoverFor: TimeSpan?

    @Option(
        parsing: .unconditional,
        help: """
            How long a link between two 'postcopy' may bring nothing before it counts as broken. \
            (default: 250ms)
            """,
        transform: TimeSpan.init(parsing:))
    var linkLimit = TimeSpan(nanoseconds: MigrationOptions().linkLimitNanoseconds)

    /// A quarter of it passes between two signs of life, and a busy host delays those by some ms.
    private static let linkLimitNanosecondsMin: UInt64 = 20_000_000

    /// - Throws: `Refusal` for values that cannot be.
    func apply(
        to options: inout MigrationOptions, addresses: [ChannelAddress] = []
    ) throws {
        guard linkLimit.nanoseconds >= Self.linkLimitNanosecondsMin else {
            throw Refusal.usage("--link-limit is below 20ms: a live peer may need as long")
        }
        guard recoverFor == nil || mode == .automatic else {
            throw Refusal.usage(
                "--recover-for is how long it comes back by itself, and --recover \(mode.rawValue)"
                    + " says that it does not: give one of them")
        }
        guard addresses.isEmpty || mode != .none else {
            throw Refusal.usage(
                "--address says where a broken link is tried again, and --recover none that it is "
                    + "not: give one of them")
        }
        if options.releasesRAM, let recover, recover != .none {
            throw Refusal.usage(
                "--release-ram gives pages away that --recover \(recover.rawValue) may have to send "
                    + "again: give one of them")
        }
        for address in addresses { try address.checkIsTarget() }
        options.linkLimitNanoseconds = linkLimit.nanoseconds
        options.recovery.mode = mode
        options.recovery.addresses = addresses
        if let recoverFor { options.recovery.lastingNanoseconds = recoverFor.nanoseconds }
    }

    /// The same choices for a destination that is started from here.
    var arguments: [String] {
        [
            "--recover", mode.rawValue, "--link-limit", "\(linkLimit.nanoseconds / 1000)us",
        ] + (recoverFor.map { ["--recover-for", "\($0.nanoseconds / 1000)us"] } ?? [])
    }
}

/// When `run` cuts the link between its two processes.
struct BreakOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: """
            Cuts the link when the destination has as much of the memory, 0% to 99%, once the workload \
            has moved: a proxy stands between the two then. Without an option that says when it \
            moves, there is no precopy, which could leave nothing to cut.
            """,
        transform: Share.init(parsing:))
    var breakAfter: Share?

    @Option(
        parsing: .unconditional,
        help: "How long no connection is let through then. (default: 2s)",
        transform: TimeSpan.init(parsing:))
    var breakFor: TimeSpan?

    @Option(
        parsing: .unconditional,
        help: "How often it is cut, spread over what is left. (default: 1)",
        transform: WholeNumber.parser("give 1 to \(BreakPlan.timesMax)"))
    var breakTimes: UInt64?

    /// - Returns: what is to be done; `nil` for nothing.
    func plan() throws -> BreakPlan? {
        guard let breakAfter else {
            guard breakFor == nil, breakTimes == nil else {
                throw Refusal.usage("--break-for and --break-times need --break-after: say when")
            }
            return nil
        }
        let times = breakTimes ?? 1
        guard (1...BreakPlan.timesMax).contains(times) else {
            throw Refusal.usage("--break-times \(times): give 1 to \(BreakPlan.timesMax)")
        }
        return BreakPlan(
            after: breakAfter.fraction, times: Int(times),
            lastingNanoseconds: breakFor?.nanoseconds ?? 2_000_000_000)
    }
}

/// A share of a whole as a user writes it: 30%, also 30.
struct Share: Equatable, Sendable {
    let fraction: Double

    struct ParseError: Error, Equatable, CustomStringConvertible {
        let description: String
    }

    init(parsing text: String) throws(ParseError) {
        let digits = text.hasSuffix("%") ? text.dropLast() : text[...]
        guard let percent = Int(digits), digits.first?.isNumber == true, (0...99).contains(percent)
        else {
            throw ParseError(description: "'\(text)' is no share: write 0% to 99%, such as 30%")
        }
        fraction = Double(percent) / 100
    }
}

/// When a link is cut, in shares of the memory that have arrived.
struct BreakPlan: Equatable, Sendable {
    static let timesMax: UInt64 = 1000

    let times: Int
    let lastingNanoseconds: UInt64
    private(set) var done = 0
    private var next: Double
    /// The share at the first cut, from which the others are spread.
    private var first = 0.0

    init(after share: Double, times: Int, lastingNanoseconds: UInt64) {
        self.times = times
        self.lastingNanoseconds = lastingNanoseconds
        next = share
    }

    /// Whether the link is to be cut now; counts the cut.
    mutating func isDue(at share: Double) -> Bool {
        guard done < times, share >= next else { return false }
        if done == 0 { first = share }
        done += 1
        next = first + (1 - first) * Double(done) / Double(times)
        return true
    }
}
