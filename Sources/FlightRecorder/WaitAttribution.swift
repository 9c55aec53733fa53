/// A part of a wait, on the destination's clock.
public struct WaitPart: Hashable, Sendable {
    /// What took it.
    public let cause: DelayCause
    /// When it began.
    public let from: UInt64
    /// When it ended.
    public let to: UInt64
}

extension WaitRecord {
    /// When it ended as far as anything says so, and never before it began.
    public var endedAt: UInt64 { began == 0 ? 0 : max(began, ended != 0 ? ended : placed) }

    /// How long it was: what its parts sum up to.
    public var lengthNanoseconds: UInt64 { endedAt - began }
}

/// Cuts waits into parts by what both sides recorded.
///
/// The parts of a wait lie one behind the other from its beginning to its end, whatever its record
/// says: an instant out of order is moved to where it can be.
struct WaitAttribution {
    private let waits: [WaitRecord]
    private let services: [ServiceRecord]
    private let served: PageIndex
    private let asked: PageIndex
    private let breaks: LinkBreaks
    private let clock: ClockOffset?

    init(_ log: FaultLog, clock: ClockOffset?) {
        waits = log.destination?.waits ?? []
        breaks = LinkBreaks(log.destination?.side)
        self.clock = clock
        // Without its clock the source's instants say nothing.
        let known = clock == nil ? [] : log.source?.services ?? []
        services = known
        served = PageIndex(
            known.map { ($0.block, $0.page, clock?.onDestination($0.received) ?? 0) })
        let waits = waits
        asked = PageIndex(
            waits.map { ($0.block, $0.page, $0.began) }, where: { waits[$0].requested != 0 })
    }

    /// Replaces `parts` by those of one wait.
    func cut(_ wait: WaitRecord, into parts: inout [WaitPart]) {
        parts.removeAll(keepingCapacity: true)
        var cutter = Cutter(wait)
        if wait.requested == 0, wait.flags.contains(.joined) {
            cutJoined(wait, with: &cutter)
        } else {
            cutOwn(wait, with: &cutter)
        }
        breaks.lay(over: cutter.parts, into: &parts)
    }

    private func cutOwn(_ wait: WaitRecord, with cutter: inout Cutter) {
        if wait.flags.contains(.present), wait.placed != 0, wait.placed < wait.read {
            cutter.cut(at: wait.placed, .alreadyInFlight)
            return cutter.end(.waking)
        }
        cutter.cut(at: wait.read, .noticing)
        if wait.flags.contains(.present) { return cutter.end(.waking) }
        guard wait.requested != 0 else {
            return cutter.arrive(wait, after: .linkAndSource)
        }
        cutter.cut(at: wait.requested, .asking)
        guard let clock, let service = service(for: wait, clock) else {
            return cutter.arrive(wait, after: .linkAndSource)
        }
        guard !service.flags.contains(.alreadySent) else {
            return cutter.arrive(wait, after: .alreadyInFlight)
        }
        cutter.cut(at: clock.onDestination(service.received), .requestTravel)
        cutter.cut(at: clock.onDestination(service.begun), service.delay)
        cutter.cut(at: clock.onDestination(service.written), .serving)
        cutter.arrive(wait, after: .pageTravel)
    }

    /// A wait for a page that somebody else asked for is made of that one's parts.
    private func cutJoined(_ wait: WaitRecord, with cutter: inout Cutter) {
        let other = asked.latest(block: wait.block, page: wait.page, upTo: wait.endedAt)
        guard let asker = other.map({ waits[$0] }), asker.endedAt >= wait.began else {
            cutter.cut(at: wait.read, .noticing)
            return cutter.arrive(wait, after: .waitingForAnother)
        }
        var its = Cutter(asker)
        cutOwn(asker, with: &its)
        cutter.cut(at: asker.began, .noticing)
        for part in its.parts { cutter.cut(at: part.to, part.cause) }
        cutter.end(.waking)
    }

    /// The last service that can have brought the page: one before a break may have come to nothing.
    private func service(for wait: WaitRecord, _ clock: ClockOffset) -> ServiceRecord? {
        let latest = wait.endedAt.addingCapped(clock.errorNanoseconds)
        return served.latest(block: wait.block, page: wait.page, upTo: latest).map { services[$0] }
    }
}

extension ServiceRecord {
    /// Why its page was not taken up as soon as the request was there.
    fileprivate var delay: DelayCause {
        if flags.contains(.relayed) { return .relayed }
        if flags.contains(.hugePageInFlight) { return .hugePageInFlight }
        if flags.contains(.rateLimited) { return .rateLimit }
        if flags.contains(.behindBackground) { return .behindBackground }
        return ahead > 0 ? .sourceBusy : .serving
    }
}

/// Lays parts one behind the other from a wait's beginning to its end.
private struct Cutter {
    private(set) var parts: [WaitPart] = []
    private var cursor: UInt64
    private let last: UInt64
    /// What an instant that is not known would have ended: it goes on up to the next one.
    private var pending: DelayCause?

    init(_ wait: WaitRecord) {
        cursor = wait.began
        last = wait.endedAt
    }

    /// What ended at `instant` is of this cause.
    mutating func cut(at instant: UInt64, _ cause: DelayCause) {
        guard instant != 0 else {
            pending = pending ?? cause
            return
        }
        let cause = pending ?? cause
        pending = nil
        let end = min(max(instant, cursor), last)
        guard end > cursor else { return }
        if let latest = parts.last, latest.cause == cause {
            parts[parts.count - 1] = WaitPart(cause: cause, from: latest.from, to: end)
        } else {
            parts.append(WaitPart(cause: cause, from: cursor, to: end))
        }
        cursor = end
    }

    /// What is left is of this cause.
    mutating func end(_ cause: DelayCause) { cut(at: last, cause) }

    /// The page comes and is placed.
    mutating func arrive(_ wait: WaitRecord, after cause: DelayCause) {
        cut(at: wait.firstByte, cause)
        cut(at: wait.placed, .placing)
        end(.waking)
    }
}
