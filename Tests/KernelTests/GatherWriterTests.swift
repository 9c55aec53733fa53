import LinuxKernel
import PageModel
import Testing
import TestSupport

@Suite("GatherWriter and ReceiveBuffer")
struct GatherWriterTests {
    private static let pages = 511

    private static func ram() throws -> GuestRAM {
        let geometry = try BlockGeometry(
            name: "gather", lengthBytes: UInt64(pages) * HostMemory.pageSize.bytes,
            hostPage: HostMemory.pageSize)
        let ram = try GuestRAM(geometry, backing: .anonymous)
        for offset in stride(from: 0, to: geometry.lengthBytes, by: 8) {
            ram.storeWord(offset &* 0x9E37_79B9_7F4A_7C15, at: offset)
        }
        return ram
    }

    private static func bytes(of ram: GuestRAM, _ offset: Int, _ length: Int) -> [UInt8] {
        let words = offset / 8..<(offset + length + 7) / 8
        let all = words.flatMap { word in
            let value = ram.loadWord(at: UInt64(word) * 8)
            return (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        return Array(all[(offset % 8)..<(offset % 8 + length)])
    }

    /// Far more than the socket holds, so every call sends a part, which may end in any piece.
    @Test(
        "headers and pages arrive in their order", arguments: ConnectedPair.Kind.allCases,
        0..<4 as Range<UInt64>)
    func order(kind: ConnectedPair.Kind, seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let ram = try Self.ram()
        let (near, far) = try ConnectedPair(kind).ends()
        near.socket.boundBuffers(bytes: 16_384, unsentBytes: 16_384)
        let reader = try JoinableThread(name: "reader") { far.drain() }
        var writer = GatherWriter(pageCapacity: GatherWriter.pageCapacityMax, headerBytesMax: 16)
        var expected: [UInt8] = []
        for _ in 0..<2 {
            let before = expected.count
            while !writer.isFull {
                let header = (0..<Int.random(in: 0...20, using: &random)).map { _ in
                    UInt8.random(in: 0...(.max), using: &random)
                }
                writer.headers += header
                let length = [0, 1, 8, 4096].randomElement(using: &random)!
                let offset = Int.random(
                    in: 0...Int(ram.geometry.lengthBytes) - length, using: &random)
                writer.append(ram, at: RAMOffset(rawValue: UInt64(offset)), lengthBytes: length)
                expected += header + Self.bytes(of: ram, offset, length)
            }
            if Bool.random(using: &random) {
                writer.headers += [1, 2, 3]
                expected += [1, 2, 3]
            }
            let byteCount = writer.byteCount
            #expect(byteCount == expected.count - before)
            try writer.flush(to: near.socket)
            let left = (writer.isEmpty, writer.byteCount)
            #expect(left == (true, 0))
        }
        near.socket.shutDown()
        let received = reader.join()
        #expect(try received.get() == expected)
    }

    /// A blocking send ends with a part only when a signal comes after that part was taken.
    @Test("a flush that signals interrupt sends all, once", arguments: ConnectedPair.Kind.allCases)
    func interrupted(kind: ConnectedPair.Kind) throws {
        let ram = try Self.ram()
        let (near, far) = try ConnectedPair(kind).ends()
        near.socket.boundBuffers(bytes: 16_384, unsentBytes: 16_384)
        let thread = try SignalledThread {
            Result { () throws(Errno) in
                var writer = GatherWriter(pageCapacity: Self.pages, headerBytesMax: 3)
                for page in 0..<Self.pages {
                    writer.headers += [1, 2, UInt8(page % 256)]
                    let offset = RAMOffset(rawValue: UInt64(page) * 4096)
                    writer.append(ram, at: offset, lengthBytes: 4096)
                }
                try writer.flush(to: near.socket)
                near.socket.shutDown()
            }
        }
        var received: [UInt8] = []
        var buffer = ReceiveBuffer(capacityBytes: 5001)
        for _ in 0..<40 {
            thread.interrupt()
            let count = try buffer.fill(from: far.socket, wait: true) ?? 0
            buffer.withBytes { bytes in
                for index in bytes.indices { received.append(bytes[index]) }
            }
            buffer.consume(count)
        }
        received += try far.drain().get()
        let outcome = thread.join()
        #expect(throws: Never.self) { try outcome.get() }
        var expected: [UInt8] = []
        for page in 0..<Self.pages {
            expected += [1, 2, UInt8(page % 256)]
            expected += Self.bytes(of: ram, page * 4096, 4096)
        }
        #expect(received == expected)
    }

    @Test("nothing, only headers and only pages are sent as they are")
    func edges() throws {
        let ram = try Self.ram()
        let (near, far) = try ConnectedPair(.unix).ends()
        var writer = GatherWriter(pageCapacity: 1, headerBytesMax: 4)
        let start = (writer.isEmpty, writer.isFull)
        #expect(start == (true, false))
        try writer.flush(to: near.socket)
        writer.headers = [5]
        try writer.flush(to: near.socket)
        writer.append(ram, at: RAMOffset(rawValue: 4096), lengthBytes: 16)
        let isFull = writer.isFull
        #expect(isFull)
        try writer.flush(to: near.socket)
        near.socket.shutDown()
        #expect(try far.drain().get() == [5] + Self.bytes(of: ram, 4096, 16))
    }

    @Test("a flush that fails leaves the writer empty and usable")
    func failure() throws {
        let ram = try Self.ram()
        let (near, far) = try ConnectedPair(.unix).ends()
        far.socket.shutDown()
        var writer = GatherWriter(pageCapacity: 2, headerBytesMax: 4)
        writer.headers = [1]
        writer.append(ram, at: RAMOffset(rawValue: 0), lengthBytes: 4096)
        var error: Errno? = nil
        do throws(Errno) { try writer.flush(to: near.socket) } catch let thrown { error = thrown }
        #expect(error == .brokenPipe)
        let state = (writer.isEmpty, writer.isFull)
        #expect(state == (true, false))
        let (second, reader) = try ConnectedPair(.unix).ends()
        writer.headers = [2]
        try writer.flush(to: second.socket)
        second.socket.shutDown()
        #expect(try reader.drain().get() == [2])
    }

    @Test("a guest range outside its block is a bug")
    func outside() async {
        await #expect(processExitsWith: .failure) {
            var writer = GatherWriter(pageCapacity: 1, headerBytesMax: 1)
            let ram = try GuestRAM(
                BlockGeometry(name: "a", lengthBytes: 4096, hostPage: .target), backing: .anonymous)
            writer.append(ram, at: RAMOffset(rawValue: 8), lengthBytes: 4096)
        }
    }

    @Test(
        "a receive buffer keeps what is not consumed, whatever the chunks",
        arguments: [1, 7, 64, 4096], 0..<5 as Range<UInt64>)
    func receive(capacityBytes: Int, seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let (near, far) = try ConnectedPair(.unix).ends()
        let sent = (0..<20_000).map { _ in UInt8.random(in: 0...(.max), using: &random) }
        var chunks: [Range<Int>] = []
        while (chunks.last?.upperBound ?? 0) < sent.count {
            let start = chunks.last?.upperBound ?? 0
            chunks.append(start..<min(sent.count, start + .random(in: 1...200, using: &random)))
        }
        let pieces = chunks.map { Array(sent[$0]) }
        let writer = try JoinableThread(name: "writer") {
            for piece in pieces { try? near.socket.send(piece.span) }
            near.socket.shutDown()
        }
        var buffer = ReceiveBuffer(capacityBytes: capacityBytes)
        var consumed = 0
        while true {
            if buffer.count < capacityBytes {
                let before = buffer.count
                let count = try #require(try buffer.fill(from: far.socket, wait: true))
                let after = buffer.count
                #expect(after == before + count)
                if count == 0 { break }
            }
            let held = buffer.withBytes { bytes in
                var copy: [UInt8] = []
                for index in bytes.indices { copy.append(bytes[index]) }
                return copy
            }
            #expect(held == Array(sent[consumed..<consumed + held.count]))
            let full = buffer.count == capacityBytes
            let step = Int.random(in: (full ? 1 : 0)...buffer.count, using: &random)
            buffer.consume(step)
            consumed += step
        }
        writer.join()
        let total = consumed + buffer.count
        #expect(total == sent.count)
    }
}
