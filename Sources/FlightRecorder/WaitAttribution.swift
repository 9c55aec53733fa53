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
    private let arrivals: MovedArrivals
    private let breaks: LinkBreaks
    private let clock: ClockOffset?

    init(_ log: FaultLog, clock: ClockOffset?) {
        waits = log.destination?.waits ?? []
        breaks = LinkBreaks(log.destination?.side)
        arrivals = MovedArrivals(log.destination)
        self.clock = clock
        // Without its clock the source's instants say nothing.
        let known = clock == nil ? [] : log.source?.services ?? []
        services = known
        served = PageIndex(
            known.map { ($0.block, $0.page, clock?.onDestination($0.received) ?? 0) })
        let waits = waits
        asked = PageIndex(
            waits.map { ($0.block, $0.page, $0.began) },
            where: { waits[$0].requested != 0 && !waits[$0].flags.contains(.joined) })
    }

    /// Replaces `parts` by those of one wait.
    func cut(_ wait: WaitRecord, into parts: inout [WaitPart]) {
        parts.removeAll(keepingCapacity: true)
        breaks.lay(over: linkedParts(of: wait), into: &parts)
    }

    /// Adds the time of one wait by its causes, however many breaks of the link it saw.
    func add(_ wait: WaitRecord, to totals: inout CauseTotals) {
        for part in linkedParts(of: wait) {
            let down = breaks.downNanoseconds(from: part.from, to: part.to)
            totals.add(down, to: .linkDown)
            totals.add(part.to - part.from - down, to: part.cause)
        }
    }

    /// The parts as if the link had never been down.
    private func linkedParts(of wait: WaitRecord) -> [WaitPart] {
        var cutter = Cutter(wait)
        let wait = arrivals.placing(wait)
        if wait.flags.contains(.joined) {
            cutJoined(wait, with: &cutter)
        } else {
            cutOwn(wait, with: &cutter)
        }
        return cutter.parts
    }

    private func cutOwn(_ wait: WaitRecord, with cutter: inout Cutter) {
        if wait.flags.contains(.present), wait.placed != 0, wait.placed < wait.read {
            cutter.cut(at: wait.placed, .alreadyInFlight)
            return cutter.end(.waking)
        }
        cutter.cut(at: wait.read, .noticing)
        if wait.flags.contains(.present) { return cutter.end(.waking) }
        guard wait.requested != 0 else {
            // What nobody asked for the background brought.
            let isBackground = wait.placed != 0 && !wait.flags.contains(.urgent)
            return cutter.arrive(wait, after: isBackground ? .alreadyInFlight : .linkAndSource)
        }
        cutter.cut(at: wait.requested, .asking)
        cutAnswer(wait, with: &cutter)
    }

    /// From the request on.
    private func cutAnswer(_ wait: WaitRecord, with cutter: inout Cutter) {
        var lostAt: UInt64?
        if wait.flags.contains(.requestedAgain) {
            // What was asked for before came to nothing.
            lostAt = breaks.lastBegin(from: wait.requested, to: wait.endedAt)
            if let lostAt { cutter.cut(at: lostAt, .requestTravel) }
        }
        guard let clock, let service = service(for: wait, from: lostAt ?? 0, clock) else {
            return cutter.arrive(wait, after: .linkAndSource)
        }
        let received = clock.onDestination(service.received)
        if service.flags.contains(.alreadySent) {
            guard service.flags.contains(.hugePageInFlight), received <= wait.endedAt else {
                return cutter.arrive(wait, after: .alreadyInFlight)
            }
            cutter.cut(at: received, .requestTravel)
            let isLimited = service.flags.contains(.rateLimited)
            return cutter.arrive(wait, after: isLimited ? .rateLimit : .hugePageInFlight)
        }
        if let fetched = fetch(for: wait, from: lostAt ?? 0, clock) {
            cutter.cut(at: clock.onDestination(fetched.received), .requestTravel)
            if service.flags.contains(.relayed) { return cutter.arrive(wait, after: .relayed) }
            cutter.cut(at: clock.onDestination(service.begun), .relayed)
        }
        cutter.cut(at: received, .requestTravel)
        cutter.cut(at: clock.onDestination(service.begun), service.delay)
        cutter.cut(at: clock.onDestination(service.written), .serving)
        cutter.arrive(wait, after: .pageTravel)
    }

    /// A wait for a page that was asked for already is made of what the asker's request met, also once
    /// the asker has left without its page.
    private func cutJoined(_ wait: WaitRecord, with cutter: inout Cutter) {
        let other = asked.latest(block: wait.block, page: wait.page, upTo: wait.endedAt)
            .map { arrivals.placing(waits[$0]) }
        guard let asker = other, asker.endedAt >= wait.began || asker.placed == 0 else {
            guard wait.requested == 0 else { return cutOwn(wait, with: &cutter) }
            cutter.cut(at: wait.read, .noticing)
            return cutter.arrive(wait, after: .waitingForAnother)
        }
        var both = wait
        both.requested = asker.requested
        if wait.requested != 0 || asker.flags.contains(.requestedAgain) {
            both.flags.insert(.requestedAgain)
        }
        if both.firstByte == 0 { both.firstByte = asker.firstByte }
        if both.placed == 0 { both.placed = asker.placed }
        both.ended = max(wait.endedAt, asker.placed)
        cutter.cut(at: asker.read, .noticing)
        cutter.cut(at: asker.requested, .asking)
        cutAnswer(both, with: &cutter)
    }

    /// The last service, of those from an instant on, that can have brought the page: one before a break
    /// may have come to nothing. The background can have brought it before the request was read.
    private func service(
        for wait: WaitRecord, from instant: UInt64, _ clock: ClockOffset
    ) -> ServiceRecord? {
        let (error, ended) = (clock.errorNanoseconds, wait.endedAt)
        let first = instant - min(instant, error)
        let last = served.latest(
            block: wait.block, page: wait.page, upTo: ended.addingCapped(error))
        if let last, clock.onDestination(services[last].received) >= first { return services[last] }
        let later = served.earliest(block: wait.block, page: wait.page, from: first)
        return later.map { services[$0] }.flatMap { $0.flags.contains(.alreadySent) ? $0 : nil }
    }
}

extension WaitAttribution {
    /// The request for which the source first had to fetch the page, if it had to: what is done about it
    /// once it is there is another service.
    private func fetch(
        for wait: WaitRecord, from instant: UInt64, _ clock: ClockOffset
    ) -> ServiceRecord? {
        let first = instant - min(instant, clock.errorNanoseconds)
        return served.earliest(block: wait.block, page: wait.page, from: first)
            .map { services[$0] }.flatMap { $0.flags.contains(.relayed) ? $0 : nil }
    }
}

extension ServiceRecord {
    /// Why a page that was claimed for its request was not taken up as soon as the request was there.
    fileprivate var delay: DelayCause {
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
