internal import CShims
internal import Glibc
public import PageModel

/// Why a descriptor that was received cannot report faults.
public enum ClientUserfaultfdError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It is this, as the kernel names it.
    case otherDescriptor(String)
    /// What the kernel answered.
    case kernel(Errno)
    /// The process that opened it has not made the handshake (`UFFDIO_API`), or is no more.
    case notInitialized(Errno)

    public var description: String {
        switch self {
        case .otherDescriptor(let name): "it is no userfaultfd but '\(name)'"
        case .kernel(let error): "asking what it is: \(error)"
        case .notInitialized(let error):
            "the kernel takes no wake-up on it (\(error)): make the UFFDIO_API handshake before it is "
                + "handed over"
        }
    }
}

/// The userfaultfd of another process, which sent it here. Its calls change that process's mappings; it
/// may be gone, which is no error of anybody.
///
/// One thread reads faults; any thread makes the other calls.
public struct ClientUserfaultfd: ~Copyable, Sendable {
    private let uffd: Userfaultfd

    /// Takes over a descriptor that was received.
    /// - Parameter address: one of the other process, of a page: the kernel is asked about it.
    public init(
        _ descriptor: consuming FileDescriptor, mapping address: ClientAddress
    ) throws(ClientUserfaultfdError) {
        try Self.check(descriptor, address)
        uffd = Userfaultfd(descriptor, origin: .userAndKernel)
    }

    private static func check(
        _ descriptor: borrowing FileDescriptor, _ address: ClientAddress
    ) throws(ClientUserfaultfdError) {
        let name: String
        do { name = try Self.name(of: descriptor) } catch { throw .kernel(error) }
        guard name == "anon_inode:[userfaultfd]" else { throw .otherDescriptor(name) }
        // Otherwise reading it would wait, and so would everybody whose faults are read by the same
        // thread.
        let flags = fcntl(descriptor.raw, F_GETFL, 0)
        guard flags >= 0, fcntl(descriptor.raw, F_SETFL, flags | O_NONBLOCK) >= 0 else {
            throw .kernel(.last)
        }
        do {
            try Errno.check(
                pc_uffd_wake(descriptor.raw, address.rawValue, HostMemory.pageSize.bytes))
        } catch { throw .notInitialized(error) }
    }

    private static func name(of descriptor: borrowing FileDescriptor) throws(Errno) -> String {
        var text = [UInt8](repeating: 0, count: 256)
        let length = unsafe text.withUnsafeMutableBytes { buffer in
            let place = unsafe buffer.baseAddress!.assumingMemoryBound(to: CChar.self)
            return unsafe readlink("/proc/self/fd/\(descriptor.raw)", place, buffer.count)
        }
        guard length >= 0 else { throw .last }
        return String(decoding: text[..<length], as: UTF8.self)
    }

    /// Reads the faults that are there, without waiting, and hands the address of each to `body`.
    public func readFaults(_ body: (ClientAddress) -> Void) throws(Errno) {
        _ = try uffd.readEvents { body(ClientAddress(rawValue: $0.address.rawValue)) }
    }

    /// Wakes whoever waits in a range; there need not be anybody, nor the process.
    public func wake(_ addresses: Range<ClientAddress>) throws(Errno) {
        try Errno.check(pc_uffd_wake(raw, addresses.lowerBound.rawValue, addresses.lengthBytes))
    }

    /// Ends the reports of a range, whatever the process has mapped there meanwhile: whoever waits is
    /// woken, and finds what the file holds. One that is gone needs nothing.
    /// - Parameter page: what the mapping consists of.
    public func release(_ addresses: Range<ClientAddress>, inPagesOf page: PageSize) {
        uffd.release(
            addresses.lowerBound.rawValue..<addresses.upperBound.rawValue, inPagesOf: page)
    }

    /// Makes pages of the range that are absent ones whose content is lost, as `Userfaultfd.poison`:
    /// page tables are not shared as files are, so that each process needs its own.
    /// - Throws: `EEXIST` at the first that is present, and where the kernel has no such thing.
    public func poison(_ addresses: Range<ClientAddress>) throws(Errno) {
        var done: UInt64 = 0
        while done < addresses.lengthBytes {
            done += UInt64(
                try Errno.check(
                    pc_uffd_poison(
                        raw, addresses.lowerBound.rawValue + done, addresses.lengthBytes - done)))
        }
    }

    fileprivate var raw: Int32 { uffd.descriptor.raw }
}

extension Range where Bound == ClientAddress {
    fileprivate var lengthBytes: UInt64 { upperBound.rawValue - lowerBound.rawValue }
}

extension Poller {
    /// Has a poller look for faults.
    @discardableResult
    public mutating func watch(_ uffd: borrowing ClientUserfaultfd) -> Int {
        watchReadable(uffd.raw)
    }
}
