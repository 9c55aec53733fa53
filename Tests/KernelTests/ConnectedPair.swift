import Glibc
import LinuxKernel

/// Both ends of a real connection.
struct ConnectedPair: ~Copyable {
    let near: StreamSocket
    let far: StreamSocket

    enum Kind: CaseIterable, Sendable { case unix, tcp }

    init(_ kind: Kind) throws {
        let address: ChannelAddress =
            switch kind {
            case .unix: .unix(path: HostUnderTest.temporaryPath("pair"))
            case .tcp: .tcp(host: "127.0.0.1", port: 0)
            }
        let listener = try Listener(at: address)
        // The backlog completes the connection before it is accepted.
        let near = try StreamSocket.connect(to: listener.address)
        let far = try listener.accept()
        near.limitWaits(nanoseconds: HostUnderTest.patienceNanoseconds)
        far.limitWaits(nanoseconds: HostUnderTest.patienceNanoseconds)
        self.near = near
        self.far = far
    }

    consuming func ends() -> (SharedSocket, SharedSocket) {
        (SharedSocket(near), SharedSocket(far))
    }
}

/// Lets a closure of a thread hold a socket, and lets a test close it.
final class SharedSocket: Sendable {
    let socket: StreamSocket

    init(_ socket: consuming StreamSocket) { self.socket = socket }

    /// Receives to the peer's end, with a small buffer so that many partial reads happen.
    func drain(capacityBytes: Int = 5000) -> Result<[UInt8], Errno> {
        Result { () throws(Errno) in
            var buffer = ReceiveBuffer(capacityBytes: capacityBytes)
            var all: [UInt8] = []
            while let count = try buffer.fill(from: socket, wait: true), count > 0 {
                buffer.withBytes { bytes in for index in bytes.indices { all.append(bytes[index]) }
                }
                buffer.consume(count)
            }
            return all
        }
    }
}
