/// When a precopy ends.
public struct SwitchoverSettings: Equatable, Sendable {
    /// 2,000 s, the most that QEMU takes (`MAX_MIGRATE_DOWNTIME_SECONDS`, `migration/options.c`).
    public static let downtimeLimitNanosecondsMax: UInt64 = 2_000_000_000_000
    /// A day: in it 10 TB pass a link of 1 Gbit/s.
    public static let switchAfterNanosecondsMax: UInt64 = 86_400_000_000_000

    /// A downtime of 300 ms (QEMU's `downtime-limit`), and the automatic rule.
    public static let usual = SwitchoverSettings(
        trusting: 300_000_000, after: nil, rounds: nil, isAutomatic: true)

    /// The longest that the guest may stand still for precopy to complete; `nil`: it never completes
    /// by itself.
    public let downtimeLimitNanoseconds: UInt64?
    /// Switch to postcopy once precopy has taken this long.
    public let switchAfterNanoseconds: UInt64?
    /// Switch to postcopy once this many rounds are over; 1 is the bulk round.
    public let switchAfterRounds: UInt64?
    /// Whether the policy also judges by itself. If not, precopy completes at the first round end at
    /// which the rest fits into the downtime limit, as in QEMU, or goes on.
    public let isAutomatic: Bool

    /// - Throws: for a downtime limit of 0 or over 2,000 s, for a time of 0 or over a day, and for 0
    ///   rounds.
    public init(
        downtimeLimitNanoseconds: UInt64? = 300_000_000, switchAfterNanoseconds: UInt64? = nil,
        switchAfterRounds: UInt64? = nil, isAutomatic: Bool = true
    ) throws(PrecopySettingsError) {
        if let limit = downtimeLimitNanoseconds {
            guard limit > 0 else { throw .noDowntime }
            guard limit <= SwitchoverSettings.downtimeLimitNanosecondsMax else {
                throw .downtimeTooLong(nanoseconds: limit)
            }
        }
        if let time = switchAfterNanoseconds {
            guard time > 0 else { throw .noPrecopyTime }
            guard time <= SwitchoverSettings.switchAfterNanosecondsMax else {
                throw .precopyTimeTooLong(nanoseconds: time)
            }
        }
        guard switchAfterRounds != 0 else { throw .noRounds }
        self.init(
            trusting: downtimeLimitNanoseconds, after: switchAfterNanoseconds,
            rounds: switchAfterRounds, isAutomatic: isAutomatic)
    }

    private init(trusting limit: UInt64?, after time: UInt64?, rounds: UInt64?, isAutomatic: Bool) {
        downtimeLimitNanoseconds = limit
        switchAfterNanoseconds = time
        switchAfterRounds = rounds
        self.isAutomatic = isAutomatic
    }
}
