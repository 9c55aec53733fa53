internal import CShims
internal import Glibc
public import PageModel

/// A page fault that a thread waits in.
public struct FaultEvent: Sendable {
    /// The first byte of the page that is missing, or the very byte where that was asked for.
    public let address: HostAddress
    /// The kernel's id of the thread; 0 of a userfaultfd that was opened without thread ids.
    public let thread: Int32

    /// One of a thread that waits at an address.
    public init(address: HostAddress, thread: Int32) {
        self.address = address
        self.thread = thread
    }
}

/// What a userfaultfd tells: page faults, and whatever else its owner asked for.
///
/// Source: "Non-cooperative userfaultfd" in Documentation/admin-guide/mm/userfaultfd.rst of the kernel.
public enum UserfaultfdEvent: Sendable {
    /// Somebody waits for a page.
    case fault(FaultEvent)
    /// In a page that is there, of memory that was registered for protection or for minor faults too.
    case otherFault(HostAddress)
    /// Pages are about to go (`madvise`); whoever gives them up goes on once this was read.
    case removed(Range<HostAddress>)
    /// The range is no longer mapped.
    case unmapped(Range<HostAddress>)
    /// What began here is mapped elsewhere now.
    case moved(from: HostAddress)
    /// The process has a child with a copy of the memory. The descriptor for it was closed: pages that are
    /// missing there read as zeros.
    case forked
    /// One that this code does not know, by the kernel's number.
    case unknown(UInt8)

    init(_ event: pc_uffd_event) {
        let start = HostAddress(rawValue: event.address)
        let end = HostAddress(rawValue: max(event.address, event.end))
        switch Int(event.kind) {
        case PC_UFFD_EVENT_PAGEFAULT where event.flags & UInt32(PC_UFFD_FAULT_OTHER) != 0:
            self = .otherFault(start)
        case PC_UFFD_EVENT_PAGEFAULT:
            self = .fault(
                FaultEvent(address: start, thread: Int32(bitPattern: event.thread)))
        case PC_UFFD_EVENT_REMOVE: self = .removed(start..<end)
        case PC_UFFD_EVENT_UNMAP: self = .unmapped(start..<end)
        case PC_UFFD_EVENT_REMAP: self = .moved(from: start)
        case PC_UFFD_EVENT_FORK:
            _ = FileDescriptor(owning: event.child)
            self = .forked
        default: self = .unknown(event.kind)
        }
    }
}

extension Userfaultfd {
    /// The most events that one read takes.
    public static var eventsPerRead: Int { Int(PC_UFFD_EVENTS_MAX) }

    /// Reads the faults that are there, without waiting, and hands each to `body`.
    /// - Returns: how many events were read.
    public func readEvents(_ body: (FaultEvent) -> Void) throws(Errno) -> Int {
        try readEveryEvent { event in
            if case .fault(let fault) = event { body(fault) }
        }
    }

    /// Reads the events that are there, at most `eventsPerRead`, without waiting, and hands each to
    /// `body`: first the faults.
    /// - Returns: how many events were read.
    public func readEveryEvent(_ body: (UserfaultfdEvent) -> Void) throws(Errno) -> Int {
        let capacity = Self.eventsPerRead
        let count = unsafe withUnsafeTemporaryAllocation(
            of: pc_uffd_event.self, capacity: capacity
        ) { events in
            let count = unsafe pc_uffd_read(descriptor.raw, events.baseAddress, capacity)
            for index in 0..<max(0, Int(count)) { body(UserfaultfdEvent(unsafe events[index])) }
            return count
        }
        return Int(try Errno.check(count))
    }
}
