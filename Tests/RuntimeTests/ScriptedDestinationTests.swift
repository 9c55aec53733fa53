import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport
import Testing

extension RuntimeLaws {
    /// A source against a destination that the test plays byte by byte.
    @Suite("A source and a scripted destination")
    struct ScriptedDestinationTests {
        static func guest(pages: Int = 64) throws -> PatternGuest {
            let guest = try PatternGuest(blocks: [
                (name: "low", pages: pages, backing: .anonymous),
                (name: "high", pages: 7, backing: .memfd),
            ])
            guest.fill()
            return guest
        }

        static func source(
            _ options: MigrationOptions = testOptions(preempt: false), starts: Bool = true,
            pages: Int = 64, listens: Bool = true
        ) throws -> SourceUnderTest {
            try SourceUnderTest(
                try guest(pages: pages), options: options, starts: starts, listens: listens)
        }

        /// Whatever happens, the guest runs here exactly when the report says so.
        static func check(
            _ source: SourceUnderTest, _ status: MigrationStatus, _ problem: String,
            withinSeconds seconds: UInt64 = 5, line: SourceLocation = #_sourceLocation
        ) throws {
            let report = try #require(
                source.report(withinSeconds: seconds), "hangs", sourceLocation: line)
            #expect(report.status == status, "\(report.problem ?? "")", sourceLocation: line)
            let runs = status == .failed || status == .cancelled
            #expect(report.guestRunsHere == runs, sourceLocation: line)
            #expect(source.guest.isRunning == runs, sourceLocation: line)
            let text = report.problem ?? ""
            #expect(text.contains(problem), "\(text)", sourceLocation: line)
            #expect(text.isEmpty == (status == .completed), sourceLocation: line)
        }

        @Test("nobody listens")
        func refused() throws {
            try Self.check(try Self.source(listens: false), .failed, "refused")
        }

        @Test("the connection is accepted and closed")
        func closed() throws {
            let source = try Self.source()
            _ = try source.accept()
            try Self.check(source, .failed, "the link to the destination ", withinSeconds: 1)
        }

        @Test("PING 1 is never answered")
        func silent() throws {
            let source = try Self.source(testOptions(silenceMilliseconds: 200))
            let main = try source.accept()
            try Self.check(source, .failed, "silent for 200 ms", withinSeconds: 2)
            _ = main
        }

        @Test("a destination that lives keeps a waiting source alive")
        func waits() throws {
            let source = try Self.source(
                testOptions(preempt: false, silenceMilliseconds: 200), starts: false)
            let main = try source.accept()
            let end = Monotonic.now() + 600_000_000
            var reader = RawReader()
            while Monotonic.now() < end {
                let some = reader.readSome(from: main.socket)
                if some.isEmpty { break }
                main.send(Answers.pong(1))
            }
            #expect(source.session.progress.status == .active)
            source.session.cancel()
            try Self.check(source, .cancelled, "cancelled", withinSeconds: 2)
        }

        /// What a destination may say that it must not, and whether it may be said later.
        static let garbage: [(name: String, bytes: [UInt8], problem: String)] = [
            ("type 0", [0, 0, 0, 0], "unknown"),
            ("unknown type", [0, 99, 0, 0], "unknown"),
            ("a long SHUT", [0, 1, 255, 255], "65535"),
            ("noise", Array("HTTP/1.1 400 Bad Request\r\n".utf8), "broke the protocol"),
            ("REQ before a block", [0, 4, 0, 12] + Array(repeating: 0, count: 12), "block"),
            ("misaligned REQ", request(start: 5, length: 4096, "low"), "whole pages"),
            ("REQ outside", request(start: 0x40_000, length: 4096, "low"), "outside"),
            ("REQ overflow", request(start: .max - 4095, length: 4096, "low"), "outside"),
            ("endless REQ", request(start: 0, length: 0xffff_f000, "low"), "outside"),
            ("empty REQ", request(start: 0, length: 0, "low"), "no bytes"),
            ("unknown block", request(start: 0, length: 4096, "lo"), "unknown RAM block 'lo'"),
            ("early SHUT 0", Answers.shut(0), ""),
            ("a reason that was not offered", [0x50, 0x44, 0, 1, 0x61], "did not offer"),
            ("two lists of extensions", extensions + extensions, "list of extensions"),
            ("RESUME_ACK", [0, 6, 0, 4, 0, 0, 0, 1], ""),
        ]

        static let extensions: [UInt8] = [0x50, 0x43, 0, 6, 0, 1, 0, 0, 0, 1]

        static func request(start: UInt64, length: UInt32, _ name: String) -> [UInt8] {
            var bytes: [UInt8] = [0, 3, 0, UInt8(13 + name.utf8.count)]
            for shift in (0..<8).reversed() {
                bytes.append(UInt8(truncatingIfNeeded: start >> UInt64(shift * 8)))
            }
            for shift in (0..<4).reversed() {
                bytes.append(UInt8(truncatingIfNeeded: length >> UInt32(shift * 8)))
            }
            return bytes + [UInt8(name.utf8.count)] + Array(name.utf8)
        }

        @Test("a broken return path fails before the package", arguments: garbage.indices)
        func earlyGarbage(_ index: Int) throws {
            let garbage = Self.garbage[index]
            let source = try Self.source(starts: index % 2 == 0)
            let main = try source.accept()
            main.send(garbage.bytes)
            try Self.check(source, .failed, garbage.problem)
        }

        @Test("a broken return path pauses behind the package", arguments: garbage.indices)
        func lateGarbage(_ index: Int) throws {
            let garbage = Self.garbage[index]
            let source = try Self.source()
            let main = try source.accept()
            main.send(Answers.ready)
            let counter = try PageCounter(source.guest)
            let reading = try Bounded("main") { counter.readMain(main) }
            #expect(counter.packageCame.wait(timeoutNanoseconds: 5_000_000_000))
            main.send(garbage.bytes)
            try Self.check(source, .postcopyPaused, garbage.problem)
            #expect(reading.output() != nil)
        }

        @Test("pages are asked for before the package")
        func earlyRequest() throws {
            let source = try Self.source(starts: false)
            let main = try source.accept()
            main.send(Answers.pong(1) + Self.request(start: 0, length: 4096, "low"))
            try Self.check(source, .failed, "before it had the guest")
        }
    }
}
