import LinuxKernel
import PostcopyRuntime

/// Receives until `count` bytes are there; fewer at the peer's end or after the socket's limit.
struct RawReader: ~Copyable {
    private var buffer = ReceiveBuffer(capacityBytes: 256 << 10)

    mutating func read(_ count: Int, from socket: borrowing StreamSocket) -> [UInt8] {
        while buffer.count < count, fill(from: socket) {}
        return take(min(count, buffer.count))
    }

    /// All bytes up to the peer's end.
    mutating func readAll(from socket: borrowing StreamSocket) -> [UInt8] {
        var bytes: [UInt8] = []
        repeat { bytes += take(buffer.count) } while fill(from: socket)
        return bytes
    }

    /// Bytes received by one call; empty at the end, or when the socket's limit passed.
    mutating func readSome(from socket: borrowing StreamSocket) -> [UInt8] {
        if buffer.count == 0 { _ = fill(from: socket) }
        return take(buffer.count)
    }

    /// What a destination says up to its PONG 0x42.
    mutating func readCommit(from socket: borrowing StreamSocket) -> [UInt8] {
        read(upTo: [0, 2, 0, 4, 0, 0, 0, 0x42], from: socket)
    }

    /// What a destination says up to its SHUT 0, or to its end.
    mutating func readSuccess(from socket: borrowing StreamSocket) -> [UInt8] {
        read(upTo: [0, 1, 0, 4, 0, 0, 0, 0], from: socket)
    }

    /// What a destination says up to its SHUT 1, or to its end.
    mutating func readShut(from socket: borrowing StreamSocket) -> [UInt8] {
        read(upTo: [0, 1, 0, 4, 0, 0, 0, 1], from: socket)
    }

    /// What a peer says up to `word`, or to its end.
    mutating func read(
        upTo word: [UInt8], from socket: borrowing StreamSocket
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        while !bytes.contains(word) {
            let more = readSome(from: socket)
            if more.isEmpty { break }
            bytes += more
        }
        return bytes
    }

    private mutating func fill(from socket: borrowing StreamSocket) -> Bool {
        guard let received = try? buffer.fill(from: socket, wait: true) else { return false }
        return received > 0
    }

    private mutating func take(_ count: Int) -> [UInt8] {
        let bytes = buffer.withBytes { held in (0..<count).map { held[$0] } }
        buffer.consume(count)
        return bytes
    }
}

extension PatternGuest {
    /// The bytes of one target page.
    func pageBytes(block: Int, page: Int) -> [UInt8] {
        memory[block].withPage(at: UInt64(page) << 12, lengthBytes: 4096) { words in
            var bytes: [UInt8] = []
            bytes.reserveCapacity(4096)
            for index in words.indices {
                for shift in 0..<8 {
                    bytes.append(UInt8(truncatingIfNeeded: words[index] >> UInt64(shift * 8)))
                }
            }
            return bytes
        }
    }
}

/// Options of tests: silence ends soon.
func testOptions(preempt: Bool = true, silenceMilliseconds: UInt64 = 10_000) -> MigrationOptions {
    var options = MigrationOptions()
    options.preempt = preempt
    // A loaded machine must not break a link that no test means to break.
    options.linkLimitNanoseconds = 20_000_000_000
    options.recovery.mode = .none
    options.silenceNanosecondsMax = silenceMilliseconds * 1_000_000
    return options
}
