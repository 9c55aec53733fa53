public import LinuxKernel
internal import PageModel

/// Why a fault handler cannot be had, or ended by itself.
public enum FaultHandlerError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no block.
    case noMemory
    /// An option of `FaultHandlerOptions`, by its name, and what it may be.
    case option(String, allowed: String)
    /// The kernel reports missing pages of private memory, tmpfs and hugetlbfs only.
    case neverMisses(block: String)
    /// Some of the same memory is given twice; this is the later block that has it.
    case repeatedMemory(block: String)
    /// A handler is started once.
    case alreadyStarted
    /// It was stopped before.
    case stopped
    /// Another handler serves some of this memory, or a migration has it.
    case memoryInUse(block: String)
    /// Another userfaultfd has this memory, or the kernel cannot report its pages.
    case registering(block: String, Errno)
    /// The process may have no more threads.
    case startingThreads(Errno)
    /// The process whose memory is served has gone.
    case ownerGone
    /// The process whose memory is served did what cannot be followed.
    case unsupported(UnsupportedEvent)
    /// A fault that can be neither served nor refused.
    case faultOutside(address: UInt64)
    /// The process whose memory is served said that a region consists of pages of so many bytes.
    case otherPages(block: String, pageBytes: UInt64)
    /// The userfaultfd cannot be read any more.
    case readingEvents(Errno)

    /// What a process may do to its memory, and a handler cannot follow.
    public enum UnsupportedEvent: Hashable, Sendable {
        /// The owner has forked.
        case fork
        /// The owner has moved a mapping.
        case move(from: UInt64)
        /// A fault in a page that is there: one that is protected, or that its file holds.
        case otherFault(address: UInt64)
        /// An event that this library does not know, by its number.
        case unknown(UInt8)
    }

    static func cannotFollow(_ event: UserfaultfdEvent) -> FaultHandlerError {
        switch event {
        case .forked: .unsupported(.fork)
        case .moved(let from): .unsupported(.move(from: from.rawValue))
        case .otherFault(let address): .unsupported(.otherFault(address: address.rawValue))
        case .unknown(let number): .unsupported(.unknown(number))
        case .fault, .removed, .unmapped: fatalError("an event that is supported")
        }
    }

    public var description: String {
        switch self {
        case .noMemory:
            "there is no memory to serve"
        case .option(let name, let allowed):
            "\(name) must be \(allowed)"
        case .neverMisses(let block):
            "RAM block '\(block)' is mapped from a file on a disk, whose missing pages the kernel does "
                + "not report: use memory of its own, tmpfs or hugetlbfs"
        case .repeatedMemory(let block):
            "memory of RAM block '\(block)' is given twice: a page of it has one place"
        case .alreadyStarted:
            "the fault handler was started before; make another one"
        case .stopped:
            "the fault handler was stopped; make another one"
        case .memoryInUse(let block):
            "another fault handler or a migration has memory of RAM block '\(block)': wait for that to end"
        case .registering(let block, let error):
            "RAM block '\(block)' cannot be registered with a userfaultfd: \(error)"
                + (error == .busy ? "; another one of this process has it" : "")
        case .startingThreads(let error):
            "the fault handler's threads cannot be started: \(error)"
        case .ownerGone:
            "the process whose memory was served is gone"
        case .unsupported(let event):
            "the process whose memory is served \(event), which cannot be followed: let it ask for missing "
                + "pages, and for notice of removed and unmapped ones at most"
        case .faultOutside(let address):
            "a fault at address \(address), outside of the regions that were described, and the kernel "
                + "cannot refuse it (Linux 6.6 can)"
        case .otherPages(let block, let bytes):
            "\(block) does not consist of pages of \(bytes) bytes, as was said of it"
        case .readingEvents(let error):
            "reading page faults: \(error)"
        }
    }
}

extension FaultHandlerError.UnsupportedEvent: CustomStringConvertible {
    public var description: String {
        switch self {
        case .fork: "has forked"
        case .move(let from): "has moved its mapping at address \(from)"
        case .otherFault(let address):
            "has registered address \(address) for faults other than missing pages"
        case .unknown(let number): "caused userfaultfd event \(number)"
        }
    }
}
