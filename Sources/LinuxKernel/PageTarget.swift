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
    var addresses: Range<HostAddress> {
        address..<HostAddress(rawValue: address.rawValue + geometry.lengthBytes)
    }
}
