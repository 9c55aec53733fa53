internal import CShims
internal import Glibc
internal import PageModel

/// Why a descriptor that another process handed over is of no use.
public enum ReceivedUserfaultfdError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It is a descriptor of something else.
    case noUserfaultfd
    /// Its owner has not shaken hands with the kernel (`UFFDIO_API`).
    case noHandshake
    /// What the kernel answered.
    case kernel(Errno)

    public var description: String {
        switch self {
        case .noUserfaultfd:
            "the descriptor that was handed over is no userfaultfd"
        case .noHandshake:
            "the userfaultfd was handed over before its handshake: its owner must call UFFDIO_API "
                + "first, and register its memory"
        case .kernel(let error):
            "the descriptor that was handed over: \(error)"
        }
    }
}

extension Userfaultfd {
    /// Takes a userfaultfd over that another process opened, and in which it has registered its memory:
    /// it reports that process's faults, and places pages there.
    ///
    /// It becomes non-blocking, for its owner as well: only such a one can be waited for. An owner that
    /// makes it blocking again keeps nobody from ending the service.
    public init(
        receiving descriptor: consuming FileDescriptor
    ) throws(ReceivedUserfaultfdError) {
        let answer = pc_uffd_receive(descriptor.raw)
        guard answer >= 0 else {
            throw answer == -ENOTTY ? .noUserfaultfd : .kernel(Errno(rawValue: -answer))
        }
        guard answer > 0 else { throw .noHandshake }
        self.init(descriptor, origin: .userAndKernel)
    }

    /// Whether the process whose memory this is has gone. A userfaultfd does not tell by itself, nor do
    /// faults come any more: who serves another process asks now and then.
    ///
    /// What is asked for changes nothing: a page of `memory` is to be mapped that its file may hold. Where
    /// that cannot be asked for (before Linux 5.13, and of memory without a file) a page is to be
    /// unregistered at which nothing is: of a process without memory the kernel says that there is none.
    public func isOwnerGone(_ memory: some PageTarget) -> Bool {
        switch probe(memory) {
        case .noSuchProcess: return true
        case .invalidArgument:
            let answer = pc_uffd_unregister(
                descriptor.raw, Self.unusedAddress, HostMemory.pageSize.bytes)
            return answer == -Errno.noMemory.rawValue
        default: return false
        }
    }

    /// The last pages of an address space of 2^47 bytes, which the kernel gives to nobody who does not ask
    /// for them by name.
    private static let unusedAddress = UInt64(1) << 47 - 2 * HostMemory.pageSize.bytes

    /// Whether somebody has caused an event and waits until it was read, or has not yet gone on since.
    public func hasEventsUnderWay(_ memory: some PageTarget) -> Bool { probe(memory) == .again }

    private func probe(_ memory: some PageTarget) -> Errno {
        let answer = pc_uffd_continue(
            descriptor.raw, memory.address.rawValue, memory.placingUnit.bytes)
        return Errno(rawValue: Int32(truncatingIfNeeded: min(answer, 0)) * -1)
    }
}
