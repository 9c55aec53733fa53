import Testing

@testable import TestWorkload
import TestSupport

@Suite("Workload state")
struct WorkloadStateTests {
    private func sample(vcpus: Int, pattern: AccessPattern, fill: InitialFill) throws
        -> WorkloadState
    {
        let specification = try specification(
            seed: .max, vcpus: vcpus, pattern: pattern, writeFraction: 0.3, hotPages: 200,
            rate: 12_345, fill: fill, pages: 300)
        return WorkloadState(
            specification: specification,
            generators: (0..<vcpus).map {
                GeneratorState(
                    stepsDone: UInt64($0) << 40, random: .max - UInt64($0),
                    cursor: UInt64(specification.pages(of: $0).count - 1), readChecksum: 0xABCD)
            })
    }

    private func decode(_ bytes: [UInt8]) throws(WorkloadError) -> WorkloadState {
        try WorkloadState(decoding: bytes.span)
    }

    @Test("decoding gives back what was encoded", arguments: [1, 2, 64], AccessPattern.allCases)
    func roundTrip(vcpus: Int, pattern: AccessPattern) throws {
        for fill in InitialFill.allCases {
            let state = try sample(vcpus: vcpus, pattern: pattern, fill: fill)
            let bytes = state.encoded()
            #expect(bytes.count == 50 + 32 * vcpus + 8)
            let decoded = try decode(bytes)
            #expect(decoded == state)
            #expect(decoded.encoded() == bytes)
        }
    }

    @Test("the layout is the documented one")
    func layout() throws {
        let bytes = try sample(vcpus: 2, pattern: .zipf, fill: .mixed).encoded()
        #expect(Array(bytes[0..<6]) == [0x50, 0x43, 0x57, 0x4C, 0, 1])
        #expect(Array(bytes[14..<18]) == [0, 2, 3, 3])
        #expect(Array(bytes[26..<34]) == [0, 0, 0, 0, 0, 0, 0x30, 0x39])
        #expect(Array(bytes[42..<50]) == [0, 0, 0, 0, 0, 0x12, 0xC0, 0])
        #expect(bytes[50 + 32 + 2] == 1)
    }

    @Test("every proper prefix is refused as too short, and a byte more as too long")
    func prefixes() throws {
        let bytes = try sample(vcpus: 3, pattern: .chase, fill: .text).encoded()
        for count in bytes.indices {
            let error = #expect(throws: WorkloadError.self) { try decode(Array(bytes[..<count])) }
            guard case .stateTruncated(let have, let need) = error else {
                Issue.record("prefix of \(count): \(String(describing: error))")
                continue
            }
            #expect(have == count && need > count && need <= bytes.count)
        }
        #expect(throws: WorkloadError.stateTrailingBytes(count: 1, at: bytes.count)) {
            try decode(bytes + [0])
        }
    }

    /// A change of one field under a right checksum, and the place that the refusal names.
    @Test(
        "a field out of range is refused with its place",
        arguments: [
            (0, [0x51]), (4, [0, 2]), (14, [0, 0]), (14, [0, 65]), (14, [255, 255]), (16, [6]),
            (17, [4]), (50, [0, 1, 0, 0, 0, 0, 0, 1]), (66, [1]), (73, [200]),
        ] as [(Int, [UInt8])])
    func fields(at place: Int, replacement: [UInt8]) throws {
        var bytes = try sample(vcpus: 1, pattern: .uniform, fill: .zero).encoded()
        bytes.replaceSubrange(place..<place + replacement.count, with: replacement)
        sign(&bytes)
        let error = #expect(throws: WorkloadError.self) { try decode(bytes) }
        guard case .stateField(_, _, let found) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(found <= place && place < found + 8)
    }

    @Test(
        "a specification that cannot be is refused as such",
        arguments: [
            (18, 0x7FF8_0000_0000_0000), (18, 0x7FF0_0000_0000_0000), (18, 0x8000_0000_0000_0000),
            (18, 0x3FF0_0000_0000_0001), (26, 1_000_000_001), (34, 0), (34, 4095), (34, 1 << 40),
            (42, 0), (42, .max), (42, 4096),
        ] as [(Int, UInt64)])
    func specifications(at place: Int, value: UInt64) throws {
        var bytes = try sample(vcpus: 1, pattern: .uniform, fill: .zero).encoded()
        for index in 0..<8 {
            bytes[place + index] = UInt8(truncatingIfNeeded: value >> UInt64(56 - 8 * index))
        }
        sign(&bytes)
        let error = #expect(throws: WorkloadError.self) { try decode(bytes) }
        guard case .option = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test("every flipped bit is refused")
    func flips() throws {
        let bytes = try sample(vcpus: 1, pattern: .uniform, fill: .zero).encoded()
        for bit in 0..<bytes.count * 8 {
            var wrong = bytes
            wrong[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: WorkloadError.self) { try decode(wrong) }
        }
    }

    @Test("100,000 mutations never trap; what is accepted is encoded to the same bytes")
    func mutations() throws {
        let sources = try [1, 3].map {
            try sample(vcpus: $0, pattern: .sequential, fill: .random).encoded()
        }
        var random = SeededRandom(seed: 77)
        var accepted = 0
        for round in 0..<100_000 {
            var bytes = sources[round & 1]
            for _ in 0...random.next(upperBound: 2 as UInt) {
                let place = Int(random.next(upperBound: UInt(bytes.count)))
                let isExtreme = random.next(upperBound: 3 as UInt) == 0
                bytes[place] = isExtreme ? 255 : UInt8.random(in: 0...255, using: &random)
            }
            let cut = random.next(upperBound: 20 as UInt)
            if cut == 0 { bytes.removeLast(Int(random.next(upperBound: UInt(bytes.count)))) }
            if cut == 1 { bytes.append(0) }
            // Without a right checksum no mutation would reach the checks of fields.
            if round % 4 != 0 { sign(&bytes) }
            guard let state = try? decode(bytes) else { continue }
            accepted += 1
            if state.encoded() != bytes { Issue.record("round \(round)") }
        }
        #expect(accepted > 1000)
    }

    /// Sets the checksum at the end to that of the bytes before it.
    private func sign(_ bytes: inout [UInt8]) {
        let body = bytes.count - 8
        guard body >= 0 else { return }
        let sum = WorkloadState.checksum(of: bytes.span, count: body)
        for index in 0..<8 {
            bytes[body + index] = UInt8(truncatingIfNeeded: sum >> UInt64(56 - 8 * index))
        }
    }
}
