import Foundation
import Glibc
import Parking
import Postcopy
import StreamWire
import Synchronization
import Testing

@Suite("A machine parked and taken up again")
struct ParkDirectoryTests {
    @Test("it comes back as it was", arguments: [RAMBacking.anonymous, .memfd])
    func roundTrip(backing: RAMBacking) throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(backing: backing), at: folder.place)
        #expect(folder.names == ["guest"])
        let parked = try ParkDirectory(opening: folder.place)
        #expect(parked.machineType == "pc-q35-7.2")
        #expect(parked.origin == "tcp:192.0.2.1:4444")
        #expect(parked.blocks.map(\.name) == SampleMachine.names)
        let machine = try parked.makeMachine()
        #expect(SampleMachine.differences(machine) == [])
        // A machine that was read can be parked again.
        try park(machine, at: folder.path + "/again")
        let again = try ParkDirectory(opening: folder.path + "/again/").makeMachine()
        #expect(SampleMachine.differences(again) == [])
    }

    @Test("no name of a peer becomes a name of a file")
    func names() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.place).sorted()
        let blocks = SampleMachine.names.indices.map { "block-\($0).ram" }
        #expect(names == (blocks + ["devices.bin", "machine.json"]).sorted())
    }

    @Test("zero pages take no space", arguments: [RAMBacking.anonymous, .memfd])
    func sparse(backing: RAMBacking) throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(backing: backing), at: folder.place)
        var allocated: UInt64 = 0
        for (index, block) in SampleMachine.blocks.enumerated() {
            var status = stat()
            try #require(unsafe stat("\(folder.place)/block-\(index).ram", &status) == 0)
            #expect(UInt64(status.st_size) == block.usedBytes)
            allocated += UInt64(status.st_blocks) * 512
        }
        #expect(allocated >= SampleMachine.filledBytes)
        // Where runs lie, a file system may note in some blocks of its own.
        #expect(allocated <= SampleMachine.filledBytes + 20 << 12)
        #expect(SampleMachine.filledBytes * 4 < SampleMachine.totalBytes)
    }

    @Test("progress goes up to the whole of memory")
    func progress() throws {
        let folder = try TestFolder()
        let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 0)
        var told: [UInt64] = []
        try reservation.commit(SampleMachine.make()) { done, total in
            #expect(total == SampleMachine.totalBytes)
            #expect(!isThere(folder.place))
            told.append(done)
        }
        #expect(told.last == SampleMachine.totalBytes)
        #expect(zip(told, told.dropFirst()).allSatisfy { $0 < $1 })
        #expect(told.count >= SampleMachine.blocks.count + 2)
    }

    @Test("only its user may read it")
    func permissions() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        for (name, mode) in [("", 0o700), ("/machine.json", 0o600), ("/block-0.ram", 0o600)] {
            var status = stat()
            try #require(unsafe stat(folder.place + name, &status) == 0)
            #expect(Int(status.st_mode & 0o777) == mode)
        }
    }

    @Test("people and programs can read the manifest")
    func manifest() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let text = try readText(folder.place + "/machine.json")
        let json = try #require(
            try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(json["kind"] as? String == "postcopy parked machine")
        #expect(json["format"] as? Int == 1)
        #expect(json["machineType"] as? String == "pc-q35-7.2")
        let configuration = json["configuration"] as? String
        #expect(
            configuration == "0512636f6e66696775726174696f6e2f7575696400000001"
                + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
        #expect(json["ramSectionID"] as? Int == 2)
        #expect(json["pageSizeSummary"] as? Int == 4096 | 2 << 20)
        let devices = try #require(json["devices"] as? [String: Any])
        #expect(devices["bytes"] as? Int == SampleMachine.devices.count)
        let blocks = try #require(json["blocks"] as? [[String: Any]])
        #expect(blocks.map { $0["name"] as? String } == SampleMachine.names)
        #expect(blocks[0]["usedBytes"] as? Int == 24 << 20)
        #expect(blocks[0]["hostPageBytes"] as? Int == 2 << 20)
        #expect(text.utf8.allSatisfy { $0 >= 0x20 || $0 == 0x0a }, "a terminal shows all of it")
    }

    @Test("a program may write the manifest anew, with more in it")
    func rewritten() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let path = folder.place + "/machine.json"
        var json = try #require(
            try JSONSerialization.jsonObject(with: Data(readText(path).utf8)) as? [String: Any])
        json["note"] = ["kept": ["for", 1, "reason"]]
        try JSONSerialization.data(withJSONObject: json).write(to: URL(fileURLWithPath: path))
        let machine = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(SampleMachine.differences(machine) == [])
    }

    @Test("a resized block is kept as long as it is used")
    func resized() throws {
        let folder = try TestFolder()
        let block = try BlockGeometry(name: "/rom@a", lengthBytes: 64 << 12, hostPage: .target)
        let ram = try GuestRAM(block, backing: .memfd, usedBytes: 8 << 12)
        ram.storeWord(5, at: 7 << 12)
        let machine = try ParkedMachine(
            machineType: "m", streamIdentity: StreamIdentity(), origin: "", memory: [ram])
        try park(machine, at: folder.place)
        let again = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(again.memory.map(\.usedBytes) == [8 << 12])
        #expect(again.memory[0].loadWord(at: 7 << 12) == 5)
    }
}
