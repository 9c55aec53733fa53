import FaultHandling
import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("A trace of faults in a file")
struct TraceFileTests {
    private static let blocks = ["ram", "a name of some length", "b"].enumerated().compactMap {
        try? BlockGeometry(
            name: $1, lengthBytes: 64 << 20, hostPage: $0 == 2 ? .size2MiB : .target)
    }

    private func withPath(_ body: (String) throws -> Void) throws {
        let path = Host.temporaryPath("trace")
        defer { _ = unsafe unlink(path) }
        try body(path)
    }

    private func put(_ bytes: [UInt8], at path: String) throws {
        try DiskFile.replace(path, with: bytes.span)
    }

    private func bytes(of path: String) throws -> [UInt8] {
        let file = try DiskFile(reading: path)
        return try file.read(lengthBytes: Int(try file.lengthBytes() ?? 0))
    }

    private func refusal(_ path: String) -> String? {
        do { _ = try FaultTrace(contentsOf: path) } catch {
            guard case .file(path, let problem) = error else { return "\(error)" }
            return problem
        }
        return nil
    }

    @Test("it is the same when it is read again", arguments: [0, 1, 5_000])
    func roundTrip(count: Int) throws {
        var random = SeededRandom(seed: 3)
        let all = (0..<16_384).map { page($0, block: 0) } + (0..<32).map { page($0, block: 2) }
        let pages = Array(all.shuffled(using: &random).prefix(count))
        let trace = try FaultTrace(of: Self.blocks, pages: pages)
        try withPath { path in
            try trace.write(to: path)
            #expect(try FaultTrace(contentsOf: path) == trace)
            let other = try FaultTrace(of: [], pages: [])
            try other.write(to: path)
            #expect(try FaultTrace(contentsOf: path) == other, "replaced")
        }
    }

    @Test("pages that are not in the memory, or twice in the trace")
    func pages() {
        #expect(throws: FaultTraceError.pageOutside(entry: 1)) {
            try FaultTrace(of: Self.blocks, pages: [page(0), page(16_384)])
        }
        #expect(throws: FaultTraceError.pageOutside(entry: 0)) {
            try FaultTrace(of: Self.blocks, pages: [page(0, block: 3)])
        }
        #expect(throws: FaultTraceError.pageRepeated(entry: 2)) {
            try FaultTrace(of: Self.blocks, pages: [page(4), page(5), page(4)])
        }
    }

    @Test("every cut and every changed byte is noticed")
    func damage() throws {
        let trace = try FaultTrace(of: Self.blocks, pages: (0..<20).map { page($0 * 3) })
        try withPath { path in
            try trace.write(to: path)
            let whole = try bytes(of: path)
            for length in 0..<whole.count {
                try put(Array(whole[..<length]), at: path)
                #expect(refusal(path) != nil, "cut to \(length)")
            }
            for index in whole.indices {
                var changed = whole
                changed[index] ^= 0x41
                try put(changed, at: path)
                #expect(refusal(path) != nil, "byte \(index)")
            }
            try put(whole + [0], at: path)
            #expect(refusal(path) != nil)
        }
    }

    /// With a checksum that fits, as somebody who means harm writes it.
    private func sealed(_ bytes: [UInt8]) -> [UInt8] {
        let sum = Checksum.crc32(of: bytes.span)
        return bytes + (0..<4).map { UInt8(truncatingIfNeeded: sum >> ($0 * 8)) }
    }

    @Test("numbers that lie size nothing")
    func hostile() throws {
        let mark = Array("PCTRACE1".utf8)
        func number(_ value: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
        }
        let block = [1, UInt8(ascii: "b")] + number(1 << 47, 8) + [12]
        let bad: [[UInt8]] = [
            number(1 << 32 - 1, 4), number(1, 4) + [200],
            number(1, 4) + [1, 65] + number(3, 8) + [12],
            number(1, 4) + [1, 65] + number(4096, 8) + [64], number(0, 4) + number(1 << 60, 8),
            number(0, 4) + number(1, 8) + number(0, 8),
            number(1, 4) + block + number(1, 8) + number(0, 2) + number(1 << 35, 6),
            number(1, 4) + block + number(2, 8) + number(0, 8) + number(0, 8),
            number(1, 4) + block + number(.max, 8) + number(0, 8),
        ]
        try withPath { path in
            for body in bad {
                try put(sealed(mark + body), at: path)
                #expect(refusal(path) != nil, "\(body)")
            }
            try put(sealed(mark + number(1, 4) + block + number(1, 8) + number(0, 8)), at: path)
            #expect(refusal(path) == nil, "a block of 2^47 bytes takes nothing")
        }
    }

    @Test("no file, a folder, and something else")
    func otherFiles() throws {
        #expect(refusal(Host.temporaryPath("none")) == "No such file or directory")
        #expect(refusal("/tmp") == "it is no regular file")
        try withPath { path in
            try put(Array("#!/bin/sh\necho hello\n".utf8), at: path)
            #expect(refusal(path) == "it is no trace of faults")
        }
    }
}
