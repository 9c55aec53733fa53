/// A setting of a precopy that cannot be, with its value and the remedy.
public enum PrecopySettingsError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A downtime limit of 0.
    case noDowntime
    /// A downtime limit over 2,000 s.
    case downtimeTooLong(nanoseconds: UInt64)
    /// A switch after no time.
    case noPrecopyTime
    /// A switch after more than a day.
    case precopyTimeTooLong(nanoseconds: UInt64)
    /// A switch after no rounds.
    case noRounds
    /// A first throttle outside 1 to 99 percent.
    case throttleInitial(percent: UInt64)
    /// An increment outside 1 to 99 percent.
    case throttleIncrement(percent: UInt64)
    /// A largest throttle below the first one, or over 99 percent.
    case throttleMax(percent: UInt64, initial: UInt64)

    public var description: String {
        switch self {
        case .noDowntime:
            "a downtime limit of 0 would let no precopy complete, since the guest must stop for the "
                + "last pages; give it some time, 300 ms unless there is a reason"
        case .downtimeTooLong(let nanoseconds):
            "a downtime limit of \(Readable.time(nanoseconds)) is over "
                + "\(Readable.time(SwitchoverSettings.downtimeLimitNanosecondsMax)); to let the guest "
                + "stand still that long, stop it before the migration"
        case .noPrecopyTime:
            "a switch after 0 s of precopy leaves no precopy; start postcopy without one"
        case .precopyTimeTooLong(let nanoseconds):
            "a switch after \(Readable.time(nanoseconds)) is over "
                + "\(Readable.time(SwitchoverSettings.switchAfterNanosecondsMax)); leave the time out "
                + "to switch only for other reasons"
        case .noRounds:
            "a switch after 0 rounds leaves no precopy; start postcopy without one, or switch after "
                + "1 round"
        case .throttleInitial(let percent):
            "an initial throttle of \(percent) % is not within 1 to 99 %; 20 % is usual"
        case .throttleIncrement(let percent):
            "a throttle increment of \(percent) % is not within 1 to 99 %; 10 % is usual"
        case .throttleMax(let percent, let initial):
            "a largest throttle of \(percent) % is not within \(initial), which is the initial one, "
                + "to 99 %; 99 % is usual"
        }
    }
}
