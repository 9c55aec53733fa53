internal import CShims
internal import Glibc

/// Descriptors that travel with bytes through a unix socket (`SCM_RIGHTS` of unix(7)), in order. Those
/// that nobody takes are closed with it.
public struct DescriptorParcel: ~Copyable, Sendable {
    private var raws: [Int32] = []

    /// An empty one.
    public init() {}

    deinit { for raw in raws { _ = Glibc::close(raw) } }

    /// How many descriptors there are.
    public var count: Int { raws.count }

    /// Adds a copy; the caller keeps its own.
    /// - Throws: `EMFILE` when this process may have no more.
    public mutating func add(_ descriptor: borrowing FileDescriptor) throws(Errno) {
        try add(copyOf: descriptor.raw)
    }

    /// Adds a copy of what raises and clears the flag: an eventfd.
    public mutating func add(_ flag: EventFlag) throws(Errno) {
        try add(copyOf: flag.descriptor.raw)
    }

    /// Adds a copy of what missing pages are reported through.
    public mutating func add(_ uffd: borrowing Userfaultfd) throws(Errno) {
        try add(copyOf: uffd.descriptor.raw)
    }

    /// Adds a copy of the file that a block's memory is mapped from.
    /// - Throws: `EBADF` for private memory, which has none.
    public mutating func add(fileOf ram: GuestRAM) throws(Errno) {
        switch ram.file {
        case .some(let file): try add(copyOf: file.raw)
        case .none: throw Errno(rawValue: EBADF)
        }
    }

    /// Takes the first one out.
    public mutating func takeFirst() -> FileDescriptor? {
        raws.isEmpty ? nil : FileDescriptor(owning: raws.removeFirst())
    }

    mutating func add(copyOf raw: Int32) throws(Errno) {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw .last }
        raws.append(copy)
    }

    fileprivate mutating func add(owning received: some Sequence<Int32>) { raws += received }

    fileprivate borrowing func withRaws<Result>(
        _ body: (UnsafeBufferPointer<Int32>) -> Result
    ) -> Result {
        unsafe raws.withUnsafeBufferPointer(body)
    }
}

// Bytes that carry descriptors.
extension StreamSocket {
    /// Sends all of `bytes`, at least one, the parcel's descriptors with the first of them.
    /// - Throws: what the kernel answers: `EINVAL` for more than 253 descriptors, or on a socket that is
    ///   no unix socket.
    public func send(_ bytes: Span<UInt8>, _ parcel: borrowing DescriptorParcel) throws(Errno) {
        precondition(!bytes.isEmpty, "descriptors travel with a byte")
        let answer = unsafe bytes.withUnsafeBytes { buffer in
            unsafe parcel.withRaws { raws in
                unsafe pc_send_descriptors(
                    descriptor.raw, buffer.baseAddress, UInt64(buffer.count), raws.baseAddress,
                    UInt64(raws.count))
            }
        }
        try send(bytes.extracting(Int(try Errno.check(answer))...))
    }

    /// Receives what is there, at least one byte unless `wait` is false and at most `bytesMax`, behind
    /// `bytes`; descriptors that came with it go into `parcel`, close-on-exec. How many to expect is the
    /// caller's to say: a peer may send up to 253 with each of its messages.
    ///
    /// Nothing is received beyond the message that the first byte came with where that carried
    /// descriptors, so that those of two messages are told apart.
    /// - Returns: the bytes received; 0 at the peer's end; `nil` when nothing is there to not wait for.
    /// - Throws: `EMSGSIZE` when a part of the descriptors was lost, as where this process may have no
    ///   more (raise `ulimit -n`): the others are closed, and the bytes are gone.
    public func receive(
        upTo bytesMax: Int, into bytes: inout [UInt8], _ parcel: inout DescriptorParcel,
        wait: Bool = true
    ) throws(Errno) -> Int? {
        precondition(bytesMax > 0)
        var answer: Int64 = 0
        var count: UInt64 = 0
        let raw = descriptor.raw
        let received = unsafe [Int32](unsafeUninitializedCapacity: Int(PC_DESCRIPTORS_MAX)) {
            raws, taken in
            let come = unsafe [UInt8](unsafeUninitializedCapacity: bytesMax) { buffer, length in
                unsafe answer = pc_receive_descriptors(
                    raw, buffer.baseAddress, UInt64(bytesMax), wait ? 1 : 0, raws.baseAddress,
                    &count)
                length = max(0, Int(answer))
            }
            bytes += come
            taken = Int(count)
        }
        parcel.add(owning: received)
        if answer == -Int64(EAGAIN), !wait { return nil }
        return Int(try Errno.check(answer))
    }
}
