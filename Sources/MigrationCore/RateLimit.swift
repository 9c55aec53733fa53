/// Says when a sender of limited rate may write next, by an absolute schedule: late wake-ups do not
/// add up. Bytes are those on the wire, instants monotonic nanoseconds.
///
/// Urgent pages are never held back, and yet the user limited what goes over the link: they use up
/// the background's budget, but leave it its share and are forgotten after a while. So the sum keeps
/// to the limit as long as urgent pages alone stay below seven eighths of it.
///
/// Allocates: no. Threads: one owner.
///
/// Source: `migration_rate_exceeded` of QEMU (`migration/migration-stats.c`), which gives a budget to
/// each 100 ms, spends it at once and then waits.
public struct RateLimit: Sendable {
    /// What a sender that was kept from writing may make up for, and so the longest burst beyond the
    /// rate: the 3 ms for which Linux may give the sender's core to another thread, a timer tick, and
    /// some. With less a busy host falls behind the rate; more would be felt on the link.
    public static let arrearsNanosecondsMax: UInt64 = 5_000_000

    /// How much of the past urgent pages are remembered, in time at the full rate: QEMU's window, at
    /// whose end it forgets everything. With more a storm of faults would long slow down the
    /// background, which alone ends the faults.
    public static let urgentNanosecondsMax: UInt64 = 100_000_000

    /// Urgent pages leave the background an eighth of the rate: enough to end, and little beside them.
    public static let backgroundShare: UInt64 = 8

    /// `nil` is no limit.
    public private(set) var bytesPerSecond: UInt64?

    /// When the next write may go: a whole nanosecond and `dueParts / bytesPerSecond` of one.
    private var due: UInt64
    private var dueParts: UInt64 = 0
    /// Urgent bytes that the background has not yet waited for.
    private var urgentBytes: UInt64 = 0

    private static let second: UInt64 = 1_000_000_000

    /// A limit under which the first write may go at `now`.
    /// - Precondition: `bytesPerSecond` is not 0.
    public init(bytesPerSecond: UInt64?, at now: UInt64) {
        precondition(bytesPerSecond != 0)
        self.bytesPerSecond = bytesPerSecond
        due = now
    }

    /// Changes the limit: what was sent and not yet waited for is waited for at the new one.
    /// - Precondition: `bytesPerSecond` is not 0.
    public mutating func setLimit(_ bytesPerSecond: UInt64?, at now: UInt64) {
        precondition(bytesPerSecond != 0)
        defer {
            self.bytesPerSecond = bytesPerSecond
            let kept = bytesPerSecond == nil ? 0 : bytes(in: Self.urgentNanosecondsMax)
            urgentBytes = min(urgentBytes, kept)
        }
        guard let old = self.bytesPerSecond, let new = bytesPerSecond, due >= now else {
            if self.bytesPerSecond == nil { due = now }
            dueParts = 0
            return
        }
        // At most (2^64 - 1)^2 + 2^64.
        let owed = UInt128(due - now) * UInt128(old) + UInt128(dueParts)
        setDue(after: owed, atRate: new, from: now)
    }

    /// Notes bytes of pages that somebody waits for.
    public mutating func noteUrgent(_ bytes: Int) {
        guard bytesPerSecond != nil else { return }
        let (sum, overflow) = urgentBytes.addingReportingOverflow(UInt64(bytes))
        urgentBytes = min(overflow ? .max : sum, self.bytes(in: Self.urgentNanosecondsMax))
    }

    /// Notes a write of the background.
    /// - Returns: nanoseconds until the next one may go; 0 is now.
    public mutating func delay(afterSending bytes: Int, at now: UInt64) -> UInt64 {
        guard let rate = bytesPerSecond else { return 0 }
        let earliest = now - min(now, Self.arrearsNanosecondsMax)
        if due < earliest {
            due = earliest
            dueParts = 0
        }
        let (room, overflow) = UInt64(bytes).multipliedReportingOverflow(
            by: Self.backgroundShare - 1)
        let urgent = min(urgentBytes, overflow ? .max : room)
        urgentBytes -= urgent
        let spent = (UInt128(bytes) + UInt128(urgent)) * UInt128(Self.second)
        setDue(after: spent + UInt128(dueParts), atRate: rate, from: due)
        return delay(at: now)
    }

    /// Nanoseconds until the next write may go; 0 is now.
    public func delay(at now: UInt64) -> UInt64 {
        guard bytesPerSecond != nil, due >= now else { return 0 }
        let (delay, overflow) = (due - now).addingReportingOverflow(dueParts > 0 ? 1 : 0)
        return overflow ? .max : delay
    }

    /// What may be written at once so that a write is no longer burst than arrears are; at least 1.
    public var burstBytes: Int { Int(clamping: max(1, bytes(in: Self.arrearsNanosecondsMax))) }

    /// What the rate is in so much time; `.max` without a limit.
    private func bytes(in nanoseconds: UInt64) -> UInt64 {
        guard let rate = bytesPerSecond else { return .max }
        return UInt64(UInt128(rate) * UInt128(nanoseconds) / UInt128(Self.second))
    }

    /// - Parameter parts: how long after `start`, in parts of a nanosecond of which `rate` are one.
    private mutating func setDue(after parts: UInt128, atRate rate: UInt64, from start: UInt64) {
        let (whole, rest) = parts.quotientAndRemainder(dividingBy: UInt128(rate))
        let (sum, overflow) = start.addingReportingOverflow(UInt64(clamping: whole))
        // Later than anybody waits, 584 years after the host started.
        due = overflow || whole > UInt128(UInt64.max) ? .max : sum
        dueParts = due == .max ? 0 : UInt64(rest)
    }
}
