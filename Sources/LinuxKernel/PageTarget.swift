public import PageModel

/// Memory in which a userfaultfd places pages: of this process, or of the one that it came from.
public protocol PageTarget: Sendable {
    /// The memory in host pages, which are placed whole.
    var geometry: BlockGeometry { get }
    /// Where it begins, in the process whose faults the userfaultfd reports.
    var address: HostAddress { get }
    /// What the kernel faults and places at once, which a host page consists of.
    var placingUnit: PageSize { get }
}

extension GuestRAM: PageTarget {}

extension PageTarget {
    /// Where all of it lies, whatever is used of it.
    package var addresses: Range<HostAddress> {
        address..<HostAddress(rawValue: address.rawValue + geometry.lengthBytes)
    }
}

extension Array where Element: PageTarget {
    /// The places of two that share addresses, the one that begins first ahead; `nil` when each has its own.
    package func firstOverlap() -> (first: Int, second: Int)? {
        let order = indices.sorted { self[$0].address < self[$1].address }
        for (first, second) in zip(order, order.dropFirst())
        where self[first].addresses.overlaps(self[second].addresses) {
            return (first, second)
        }
        return nil
    }
}
