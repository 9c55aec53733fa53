internal import Glibc
public import PageModel

/// Collects headers and guest pages and sends them in one system call, the pages straight from guest
/// memory. One thread owns it.
public struct GatherWriter: ~Copyable {
    /// Where encoders append; pages stand between its bytes.
    public var headers: [UInt8] = []
    private var pieces: [Piece] = []
    private let pageCapacity: Int
    /// Bytes in all pages collected.
    private var pageBytes = 0

    /// A run of guest memory that goes behind the first `headerEnd` bytes of the headers.
    private struct Piece {
        let headerEnd: Int
        let ram: GuestRAM
        let offset: RAMOffset
        let lengthBytes: Int
    }

    /// `sendmsg` takes 1,024 vectors (IOV_MAX), and a page needs two: its header and itself.
    public static let pageCapacityMax = 511

    /// - Parameter headerBytesMax: what one page's header takes at the most.
    public init(pageCapacity: Int, headerBytesMax: Int) {
        precondition((1...Self.pageCapacityMax).contains(pageCapacity))
        self.pageCapacity = pageCapacity
        headers.reserveCapacity((pageCapacity + 1) * headerBytesMax)
        pieces.reserveCapacity(pageCapacity)
    }

    /// Whether it takes no more pages before it is flushed.
    public var isFull: Bool { pieces.count == pageCapacity }
    /// Whether there is nothing to write.
    public var isEmpty: Bool { headers.isEmpty && pieces.isEmpty }
    /// The bytes that a flush would write.
    public var byteCount: Int { headers.count + pageBytes }

    /// Puts guest memory behind the headers appended so far.
    public mutating func append(_ ram: GuestRAM, at offset: RAMOffset, lengthBytes: Int) {
        precondition(!isFull)
        precondition(ram.geometry.contains(start: offset, lengthBytes: UInt64(lengthBytes)))
        pieces.append(
            Piece(headerEnd: headers.count, ram: ram, offset: offset, lengthBytes: lengthBytes))
        pageBytes += lengthBytes
    }

    /// Sends all that was collected and starts anew.
    /// - Throws: what the socket answered; nothing is known then about how much arrived.
    public mutating func flush(to socket: borrowing StreamSocket) throws(Errno) {
        defer {
            headers.removeAll(keepingCapacity: true)
            pieces.removeAll(keepingCapacity: true)
            pageBytes = 0
        }
        let raw = socket.descriptor.raw
        let status: Int32 = unsafe headers.withUnsafeBytes { headerBytes in
            unsafe withUnsafeTemporaryAllocation(
                of: iovec.self, capacity: pieces.count * 2 + 1
            ) { vectors in
                let count = unsafe fill(vectors, headers: headerBytes)
                let used = unsafe UnsafeMutableBufferPointer(rebasing: vectors[..<count])
                return unsafe Self.sendAll(used, to: raw)
            }
        }
        try Errno.check(status)
    }

    @unsafe private func fill(
        _ vectors: UnsafeMutableBufferPointer<iovec>, headers: UnsafeRawBufferPointer
    ) -> Int {
        var count = 0
        var headerStart = 0
        func append(_ base: UnsafeRawPointer?, _ length: Int) {
            guard length > 0 else { return }
            let start = unsafe UnsafeMutableRawPointer(mutating: base)
            unsafe vectors.initializeElement(
                at: count, to: iovec(iov_base: start, iov_len: length))
            count += 1
        }
        for piece in pieces {
            unsafe append(
                headers.baseAddress.map { unsafe $0 + headerStart }, piece.headerEnd - headerStart)
            headerStart = piece.headerEnd
            unsafe append(piece.ram.base + Int(piece.offset.rawValue), piece.lengthBytes)
        }
        unsafe append(
            headers.baseAddress.map { unsafe $0 + headerStart }, headers.count - headerStart)
        return count
    }

    @unsafe private static func sendAll(
        _ vectors: UnsafeMutableBufferPointer<iovec>, to raw: Int32
    ) -> Int32 {
        var first = 0
        while first < vectors.count {
            var message = unsafe msghdr()
            unsafe message.msg_iov = unsafe vectors.baseAddress! + first
            unsafe message.msg_iovlen = vectors.count - first
            let answer = unsafe sendmsg(raw, &message, Int32(MSG_NOSIGNAL))
            if answer < 0 {
                if errno == EINTR { continue }
                return -errno
            }
            var sent = answer
            while first < vectors.count, unsafe sent >= vectors[first].iov_len {
                unsafe sent -= vectors[first].iov_len
                first += 1
            }
            if sent > 0 {
                unsafe vectors[first].iov_base += sent
                unsafe vectors[first].iov_len -= sent
            }
        }
        return 0
    }
}
