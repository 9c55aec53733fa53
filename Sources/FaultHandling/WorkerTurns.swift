internal import LinuxKernel
internal import Synchronization

/// Settles which worker waits for faults: one at a time, which serves what it has read itself.
///
/// A fault that woke another worker, or that was handed to one, would cost as much again as serving it.
/// So the others stand by, and take over when the one who leads is held up: at once when pages have been
/// slow to serve, and else when an alarm finds that it has been away for too long.
final class WorkerTurns: Sendable {
    /// What a worker is woken for.
    enum Call: UInt32 {
        case events = 1
        case pages = 2
        case turn = 3
        case alarm = 4
        case end = 5
    }

    private let leading: SharedPoller
    private let standingBy: SharedPoller
    /// Raised when nobody leads.
    private let turn: EventFlag
    private let alarm: AlarmFlag
    private let hasOthers: Bool
    private let lead = Mutex(Lead())

    private struct Lead {
        var leader: Int?
        /// Since when the leader serves a page.
        var servingSince: UInt64?
        /// When the alarm goes off next; an instant that is past when it is not set.
        var alarmAt: UInt64 = 0
        /// Whether the last page was slow to serve.
        var isSlow = false

        /// Whether another worker is to lead.
        var isVacant: Bool {
            leader == nil || (awayNanoseconds ?? 0) >= WorkerTurns.patienceNanoseconds
        }

        /// For how long the leader has been serving a page by now.
        var awayNanoseconds: UInt64? {
            servingSince.map { since in
                let now = Monotonic.now()
                // Taken on another processor.
                return now > since ? now - since : 0
            }
        }
    }

    /// The alarm comes after one to two of it. A page in memory takes a hundredth, and one that comes from
    /// afar takes many times as much: who touches another page meanwhile waits so much longer, once.
    private static let patienceNanoseconds: UInt64 = 1_000_000
    /// Waking another worker costs less than a tenth of it.
    private static let slowNanoseconds: UInt64 = 200_000

    init(
        _ uffd: borrowing Userfaultfd, pagesLeft: EventFlag, ending: EventFlag, hasOthers: Bool
    ) throws(Errno) {
        self.hasOthers = hasOthers
        leading = try SharedPoller()
        standingBy = try SharedPoller()
        turn = try EventFlag()
        alarm = try AlarmFlag()
        try leading.watch(uffd, as: Call.events.rawValue)
        try leading.watchRaises(of: pagesLeft, as: Call.pages.rawValue)
        try leading.watch(ending, as: Call.end.rawValue)
        try standingBy.watchRaises(of: pagesLeft, as: Call.pages.rawValue)
        try standingBy.watchRaises(of: turn, as: Call.turn.rawValue)
        try standingBy.watch(alarm, as: Call.alarm.rawValue)
        try standingBy.watch(ending, as: Call.end.rawValue)
    }

    /// Whether this worker leads now: it did, nobody does, or who does has been away for too long.
    func tryLead(_ worker: Int) -> Bool {
        lead.withLock { lead in
            if lead.leader == worker { return true }
            guard lead.isVacant else { return false }
            lead.leader = worker
            lead.servingSince = nil
            return true
        }
    }

    /// Waits for events, as the one who leads; `nil` when the time ran out.
    func awaitEvents(timeoutNanoseconds: UInt64) -> Call? {
        leading.wait(timeoutNanoseconds: timeoutNanoseconds).flatMap(Call.init)
    }

    /// Waits until there may be something to do for one who does not lead.
    func standBy() {
        guard let tag = standingBy.wait(timeoutNanoseconds: .max), Call(rawValue: tag) == .alarm
        else { return }
        let isToSet = lead.withLock { lead in
            // Whoever has been away for longer is relieved by `tryLead`.
            guard let away = lead.awayNanoseconds, away < Self.patienceNanoseconds else {
                return false
            }
            lead.alarmAt = Monotonic.now() + Self.patienceNanoseconds
            return true
        }
        if isToSet { alarm.set(afterNanoseconds: Self.patienceNanoseconds) }
    }

    /// A worker begins to serve a page; answers when. The one who leads sees to it that faults are read
    /// meanwhile.
    func beginServing(_ worker: Int) -> UInt64 {
        let now = Monotonic.now()
        guard hasOthers else { return now }
        let (isFree, isToSet) = lead.withLock { lead in
            // What called this worker may have been meant for one who leads, and it has found a page.
            guard lead.leader == worker else { return (lead.isVacant, false) }
            if lead.isSlow {
                lead.leader = nil
                return (true, false)
            }
            lead.servingSince = now
            // Put off while faults keep coming, so that it goes off only when somebody is held up, or
            // once after the last of them.
            guard lead.alarmAt < now + Self.patienceNanoseconds else { return (false, false) }
            lead.alarmAt = now + 2 * Self.patienceNanoseconds
            return (false, true)
        }
        if isFree { turn.raise() }
        if isToSet { alarm.set(afterNanoseconds: 2 * Self.patienceNanoseconds) }
        return now
    }

    /// A worker has served a page.
    func endServing(_ worker: Int, since: UInt64) {
        guard hasOthers else { return }
        let isSlow = Monotonic.now() - since >= Self.slowNanoseconds
        lead.withLock { lead in
            lead.isSlow = isSlow
            if lead.leader == worker { lead.servingSince = nil }
        }
    }
}
