import Foundation
import LinuxKernel

/// A destination that answers what a source waits for and only counts what comes. Fresh memory is
/// placed more slowly than it is received, and a rate can be seen to be limited only below that.
enum StreamSink {
    private static let pongs: [UInt8] = [1, 2]
    private static let commit: UInt8 = 0x42
    /// The stream's head, commands and package take less, so that pages come from here on.
    private static let bytesBeforePages: UInt64 = 1 << 20

    /// Bytes a second over so much time of pages on the main channel; the source is cut off then.
    static func bytesPerSecond(
        from measurement: Measurement, nanoseconds: UInt64
    ) throws -> Double {
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let source = try measurement.startSource("sink", "\(listener.address)")
        let socket = try listener.accept()
        socket.boundBuffers(bytes: 128 << 10, unsentBytes: 32 << 10)
        for value in pongs { try socket.send(pong(value).span) }
        var buffer = ReceiveBuffer(capacityBytes: 512 << 10)
        var (received, counted) = (0 as UInt64, 0 as UInt64)
        var (start, end) = (0 as UInt64, 0 as UInt64)
        while start == 0 || end - start < nanoseconds {
            let count = UInt64(try buffer.fill(from: socket, wait: true) ?? 0)
            precondition(count > 0, "the source sent all before the time had passed")
            buffer.consume(Int(count))
            received += count
            end = Monotonic.now()
            if start > 0 {
                counted += count
            } else if received >= bytesBeforePages {
                start = end
                try socket.send(pong(commit).span)
            }
        }
        socket.shutDown()
        source.waitUntilExit()
        return Double(counted) * 1e9 / Double(end - start)
    }

    /// A PONG of the return path.
    private static func pong(_ value: UInt8) -> [UInt8] { [0, 2, 0, 4, 0, 0, 0, value] }
}
