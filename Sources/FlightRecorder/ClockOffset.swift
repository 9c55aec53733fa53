/// How the source's clock compares with the destination's, by the waits that both sides recorded.
///
/// A request is read before it is received, and a page taken up before it arrives, on either clock:
/// so each wait bounds the offset, as an exchange of NTP does. What all of them allow is the answer.
/// Clocks drift apart in minutes; where no offset fits all, the error covers every offset that any of
/// the waits allows, given how fast clocks drift.
public struct ClockOffset: Hashable, Sendable {
    /// The source's clock less the destination's, in nanoseconds.
    public let nanoseconds: Int64
    /// How far that may be off, either way.
    public let errorNanoseconds: UInt64
    /// Whether there is nothing to estimate: both sides ran on one host.
    public let isShared: Bool

    /// One clock.
    static let shared = ClockOffset(nanoseconds: 0, errorNanoseconds: 0, isShared: true)

    private init(nanoseconds: Int64, errorNanoseconds: UInt64, isShared: Bool) {
        self.nanoseconds = nanoseconds
        self.errorNanoseconds = errorNanoseconds
        self.isShared = isShared
    }

    /// `nil` where a side is missing, or nothing that both have recorded says anything.
    public init?(_ log: FaultLog) {
        guard let destination = log.destination, let source = log.source else { return nil }
        if !destination.side.bootID.isEmpty, destination.side.bootID == source.side.bootID {
            self = .shared
            return
        }
        let bounds = Self.bounds(destination.waits, source.services)
        guard let first = bounds.first else { return nil }
        let common = bounds.reduce(first) { $0.common(with: $1) }
        if common.low <= common.high {
            self.init(nanoseconds: common.middle, errorNanoseconds: common.reach, isShared: false)
            return
        }
        let narrowed = Self.narrowed(bounds)
        let all = narrowed.reduce(narrowed[0]) { $0.hull(with: $1) }
        self.init(nanoseconds: all.middle, errorNanoseconds: all.reach, isShared: false)
    }

    /// Bounds in the order of their waits, each by what its neighbours' allow once they have drifted: a
    /// wait that lasted long says little of its own.
    private static func narrowed(_ bounds: [Bounds]) -> [Bounds] {
        var result = bounds.sorted { $0.at < $1.at }
        for place in result.indices.dropFirst() { result[place].narrow(by: result[place - 1]) }
        for place in result.indices.dropLast().reversed() {
            result[place].narrow(by: result[place + 1])
        }
        return result
    }

    /// An instant of the source on the destination's clock; 0 stays 0.
    func onDestination(_ instant: UInt64) -> UInt64 {
        guard instant != 0 else { return 0 }
        let distance = nanoseconds.magnitude
        if nanoseconds < 0 { return instant.addingCapped(distance) }
        return instant > distance ? instant - distance : 1
    }

    /// What one wait allows.
    private struct Bounds {
        /// When, on the destination's clock.
        let at: UInt64
        var low: Int64
        var high: Int64

        /// A crystal is off by some 100 parts in a million, and the kernel corrects a clock by 500 at most
        /// (`MAXFREQ`): two clocks drift apart by less than 2,000.
        private static let driftDivisor: UInt64 = 500

        var width: UInt64 { UInt64(bitPattern: high &- low) }
        /// Without the sum, which may be too large.
        var middle: Int64 { (low >> 1) + (high >> 1) + (low & high & 1) }
        /// From the middle to the farther end.
        var reach: UInt64 { width / 2 + width % 2 }

        func common(with other: Bounds) -> Bounds {
            Bounds(at: at, low: max(low, other.low), high: min(high, other.high))
        }

        /// What either allows, and all between.
        func hull(with other: Bounds) -> Bounds {
            Bounds(at: at, low: min(low, other.low), high: max(high, other.high))
        }

        /// Takes away what another wait's bounds rule out; nothing where they rule out all.
        mutating func narrow(by other: Bounds) {
            let apart = at > other.at ? at - other.at : other.at - at
            let drift = Int64(apart / Self.driftDivisor + 1)
            let (least, isBelow) = other.low.subtractingReportingOverflow(drift)
            let (most, isAbove) = other.high.addingReportingOverflow(drift)
            let (newLow, newHigh) = (
                isBelow ? low : max(low, least), isAbove ? high : min(high, most)
            )
            if newLow <= newHigh { (low, high) = (newLow, newHigh) }
        }
    }

    /// Of pages that were asked for once and served once, so that nothing can be mistaken.
    private static func bounds(
        _ waits: [WaitRecord], _ services: [ServiceRecord]
    ) -> [Bounds] {
        let served = PageIndex(services.map { ($0.block, $0.page, $0.received) })
        let asked = PageIndex(
            waits.map { ($0.block, $0.page, $0.read) }, where: { waits[$0].requested != 0 })
        return asked.single.compactMap { index in
            let wait = waits[index]
            // Where the background brought it, there is no first byte.
            let arrived = wait.flags.contains(.urgent) ? wait.firstByte : wait.placed
            guard wait.read != 0, arrived >= wait.read,
                let service = served.only(block: wait.block, page: wait.page).map({ services[$0] }),
                !service.flags.contains(.alreadySent), service.received != 0,
                service.begun >= service.received
            else { return nil }
            // Not the request's and the write's ends: the other side may be quicker than a call returns.
            let bounds = Bounds(
                at: wait.read, low: Int64(bitPattern: service.begun &- arrived),
                high: Int64(bitPattern: service.received &- wait.read))
            return bounds.low <= bounds.high ? bounds : nil
        }
    }
}
