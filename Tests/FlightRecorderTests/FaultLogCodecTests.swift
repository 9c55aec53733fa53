import TestSupport
import Testing

@testable import FlightRecorder

@Suite("the file of a fault log")
struct FaultLogCodecTests {
    @Test("what was written is read", arguments: 0..<300 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        let log = FaultLog.random(seed: seed, instants: seed % 2 == 0 ? .max : 1 << 30)
        #expect(try FaultLogCodec.decode(FaultLogCodec.encode(log)) == log)
    }

    @Test("extremes are records like others")
    func extremes() throws {
        var log = FaultLog.made(
            [WaitRecord(.max, read: 1, requested: .max, firstByte: 2, placed: 1, ended: .max)],
            [ServiceRecord(.max, begun: 1, written: .max)])
        log.destination?.waits[0].thread = .min
        log.destination?.waits[0].page = .max
        log.destination?.waits.append(WaitRecord(1, ended: .max, flags: [], thread: .max, page: 0))
        var placement = PlacementRecord()
        (placement.page, placement.count, placement.block) = (.max, .max, .max)
        (placement.at, placement.isUrgent) = (.max, .max)
        log.destination?.placements = [placement, PlacementRecord(), placement]
        #expect(try FaultLogCodec.decode(FaultLogCodec.encode(log)) == log)
    }

    @Test("every beginning of a file is refused where it ends")
    func prefixes() {
        let bytes = FaultLogCodec.encode(.random(seed: 1))
        for length in bytes.indices {
            let refusal: FaultLogError = length == 0 ? .foreign : .cut(at: length)
            #expect(throws: refusal) { try FaultLogCodec.decode(Array(bytes[..<length])) }
        }
    }

    @Test("every byte that is another is noticed")
    func damage() {
        let bytes = FaultLogCodec.encode(.random(seed: 2))
        for place in bytes.indices {
            for value in [bytes[place] ^ 1, bytes[place] ^ 0x80, ~bytes[place]] {
                var damaged = bytes
                damaged[place] = value
                #expect(throws: FaultLogError.self, "\(place)") {
                    try FaultLogCodec.decode(damaged)
                }
            }
        }
    }

    /// With a right check value behind every section: what is left is to make sense of it, or not.
    @Test("a hostile file is read or refused, and never traps", arguments: 0..<400 as Range<UInt64>)
    func hostile(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var bytes = FaultLogCodec.encode(.random(seed: seed % 10))
        let donor = FaultLogCodec.encode(.random(seed: 5))
        for _ in 0...random.below(3) {
            Damage.strike(&bytes, at: 12..<bytes.count, joining: donor, with: &random)
        }
        Self.mend(&bytes)
        do throws(FaultLogError) {
            let log = try FaultLogCodec.decode(bytes)
            _ = FaultAnalysis(log)
        } catch {
            #expect(!error.description.isEmpty)
        }
    }

    @Test("a version that is not known is named")
    func newer() {
        var bytes = FaultLogCodec.encode(FaultLog())
        bytes[8] = 7
        #expect(throws: FaultLogError.newer(version: 7)) { try FaultLogCodec.decode(bytes) }
        #expect(throws: FaultLogError.foreign) { try FaultLogCodec.decode(Array("{}".utf8)) }
        #expect(throws: FaultLogError.malformed(at: 31, "bytes follow its end")) {
            try FaultLogCodec.decode(FaultLogCodec.encode(FaultLog()) + [0])
        }
    }

    @Test("more blocks, phases or records than there can be are refused")
    func absurd() throws {
        var log = FaultLog()
        let block = FaultLog.Block(name: "", lengthBytes: 0, hostPageBytes: 0)
        log.blocks = Array(repeating: block, count: FaultLog.blocksMax)
        #expect(try FaultLogCodec.decode(FaultLogCodec.encode(log)) == log)
        log.blocks.append(block)
        Self.expectRefusal(log, "65536 blocks are more than 65535")
        log.blocks = []
        var source = FaultLog.Source()
        let phase = FaultLog.Phase(status: "", at: 0)
        source.side.phases = Array(repeating: phase, count: FaultLog.Side.phasesMax)
        log.source = source
        #expect(try FaultLogCodec.decode(FaultLogCodec.encode(log)) == log)
        log.source?.side.phases.append(phase)
        Self.expectRefusal(log, "4097 phases are more than 4096")
        var writer = ByteWriter()
        writer.records([PlacementRecord()])
        var reader = ByteReader(writer.bytes, writer.bytes.indices)
        var records = Array(repeating: PlacementRecord(), count: FaultLogCodec.recordsMax)
        #expect(throws: FaultLogError.self) { try reader.records(into: &records) }
        records.removeLast()
        try reader.records(into: &records)
        #expect(records.count == FaultLogCodec.recordsMax)
    }

    private static func expectRefusal(_ log: FaultLog, _ reason: String) {
        do throws(FaultLogError) {
            _ = try FaultLogCodec.decode(FaultLogCodec.encode(log))
            Issue.record("it was read")
        } catch { #expect(error.description.hasSuffix(reason)) }
    }

    @Test("a source's log joins a destination's by the names of blocks")
    func joining() {
        var here = FaultLog.made([])
        here.source = nil
        var there = FaultLog.made([], [ServiceRecord(1, begun: 2, written: 3)])
        there.destination = nil
        there.blocks.insert(.init(name: "rom", lengthBytes: 4096, hostPageBytes: 4096), at: 0)
        there.source?.services[0].block = 1
        let both = here.joined(with: there)
        #expect(both.blocks.map(\.name) == ["ram", "rom"])
        #expect(both.source?.services.map(\.block) == [0])
        #expect(both.destination == here.destination)
    }

    @Test("blocks that no number is left for are left out, and their records point nowhere")
    func joiningTooMany() {
        var (here, there) = (FaultLog.made([]), FaultLog.made([], []))
        there.destination = nil
        there.blocks = (0..<FaultLog.blocksMax).map {
            FaultLog.Block(name: "\($0)", lengthBytes: 4096, hostPageBytes: 4096)
        }
        here.source = nil
        for index in [0, FaultLog.blocksMax - 1] {
            var service = ServiceRecord(1, begun: 2)
            service.block = UInt16(index)
            there.source?.services.append(service)
        }
        let both = here.joined(with: there)
        #expect(both.blocks.count == FaultLog.blocksMax)
        #expect(both.source?.services.map(\.block) == [1, .max])
    }

    /// Makes the check value of each section right, as far as there are sections.
    private static func mend(_ bytes: inout [UInt8]) {
        var at = 12
        while at + 9 <= bytes.count {
            let length = (0..<4).reduce(0) { $0 | Int(bytes[at + 1 + $1]) << (8 * $1) }
            guard at + 9 + length <= bytes.count else { return }
            let check = crc(bytes[at..<at + 5 + length])
            for index in 0..<4 {
                bytes[at + 5 + length + index] = UInt8(truncatingIfNeeded: check >> (8 * index))
            }
            at += 9 + length
        }
    }

    /// Bit by bit, as it is defined.
    private static func crc(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        ~bytes.reduce(0xFFFF_FFFF as UInt32) { crc, byte in
            (0..<8).reduce(crc ^ UInt32(byte)) { value, _ in
                value & 1 == 1 ? (value >> 1) ^ 0xEDB8_8320 : value >> 1
            }
        }
    }
}
