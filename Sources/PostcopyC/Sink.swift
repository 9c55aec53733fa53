// The header says what each of these promises. Others than public ones are hidden symbols.
public import CPostcopy
internal import Synchronization

/// `postcopy_sink`: device state on its way from a callback.
final class Sink: Handled {
    static let kind = "postcopy_sink"

    /// `POSTCOPY_DEVICE_BYTES_MAX`, whose cast Swift does not see.
    static let bytesMax = 64 << 20

    private struct Content: Sendable {
        var bytes: [UInt8] = []
        var isOverfull = false
    }

    private let content = Mutex(Content())

    func append(_ added: UnsafeRawBufferPointer) throws(Failure) {
        try content.withLock { content throws(Failure) in
            guard added.count <= Self.bytesMax - content.bytes.count else {
                content.isOverfull = true
                throw .invalid("device state is over \(Self.bytesMax) bytes long")
            }
            unsafe content.bytes.append(contentsOf: added)
        }
    }

    /// What was written, unless that was too much.
    func close() -> [UInt8]? { content.withLock { $0.isOverfull ? nil : $0.bytes } }
}

@c @implementation
public func postcopy_sink_write(
    _ sink: OpaquePointer!, _ bytes: UnsafeRawPointer!, _ length: Int
) -> postcopy_code {
    attempt(nil) { () throws(Failure) in
        let sink = try unsafe Handles.find(sink, as: Sink.self)
        guard unsafe bytes != nil || length == 0 else { throw .null("bytes") }
        guard length >= 0 else { throw .invalid("a length of over half the address space") }
        try unsafe sink.append(UnsafeRawBufferPointer(start: bytes, count: length))
    }
}
