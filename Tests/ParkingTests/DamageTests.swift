import Foundation
import Glibc
import LinuxKernel
import Parking
import TestSupport
import Testing

@Suite("A parked machine that is not as it was")
struct DamageTests {
    private static func reading(_ path: String) -> ParkError? {
        refusal { () throws(ParkError) in try ParkDirectory(opening: path) }
    }

    /// A change of the manifest's text, and what the refusal must hold.
    struct Change: CustomTestStringConvertible, Sendable {
        let old: String
        let new: String
        let reason: String
        var testDescription: String { reason }

        init(_ old: String, _ new: String, _ reason: String) {
            self.old = old
            self.new = new
            self.reason = reason
        }
    }

    private static let crc = "\"crc32\": \""

    static let changes: [Change] = [
        Change("\"kind\": \"postcopy parked machine\"", "\"kind\": \"cake\"", "'kind' is not"),
        Change("\"kind\"", "\"sort\"", "'kind' is missing"),
        Change("\"format\": 1", "\"format\": 2", "has format 2, this program knows 1"),
        Change("\"format\": 1", "\"format\": \"1\"", "'format' is no whole number"),
        Change("\"format\": 1", "\"format\": 1.0", "'format' is no whole number"),
        Change("\"format\": 1", "\"format\": -1", "'format' is no whole number"),
        Change("\"format\": 1", "\"format\": 18446744073709551616", "'format' is no whole number"),
        Change("\"origin\": \"tcp", "\"origin\": \"tcp\u{1}", "a control character"),
        Change("\"origin\": \"tcp", "\"origin\": 3, \"x\": \"tcp", "'origin' is no string"),
        Change(
            "\"machineType\": \"pc", "\"machineType\": \"\(String(repeating: "p", count: 256))",
            "'machineType' is longer than 255 bytes"),
        Change("\"0512", "\"05", "devices"),
        Change("\"0512", "\"0", "'configuration' is not bytes in hexadecimal"),
        Change("\"0512", "\"g512", "'configuration' is not bytes in hexadecimal"),
        Change("\"ramSectionID\": 2", "\"ramSectionID\": 0", "'ramSectionID' is 0, expected 1 to"),
        Change("\"ramSectionID\": 2", "\"ramSectionID\": 4294967296", "expected 1 to 4294967295"),
        Change("\"pageSizeSummary\": 2101248", "\"pageSizeSummary\": 4096", "2101248"),
        Change("\"devices\": {", "\"devices\": [{", "is due"),
        Change("\"devices\": {", "\"devices\": 1, \"x\": {", "'devices' is no object"),
        Change("\"devices.bin\"", "\"/etc/passwd\"", "'devices.file' is not 'devices.bin'"),
        Change("\"bytes\": ", "\"bytes\": 1", "devices.bin"),
        Change("\"bytes\": ", "\"bytes\": 99999999999", "expected 0 to 67108864"),
        Change(crc, crc + "0", "'devices.crc32' is"),
        Change(crc, crc + "00", "'devices.crc32' is longer than 8 bytes"),
        Change("\"blocks\": [", "\"blocks\": 1, \"x\": [", "'blocks' is no list"),
        Change("\"blocks\": [", "\"blocks\": [[]], \"x\": [", "'blocks[0].file' is missing"),
        Change("\"blocks\": [", "\"blocks\": [], \"x\": [", "the machine has no RAM block"),
        Change("\"block-1.ram\"", "\"../block-1.ram\"", "'blocks[1].file' is not 'block-1.ram'"),
        Change("\"block-1.ram\"", "\"block-2.ram\"", "'blocks[1].file' is not 'block-1.ram'"),
        Change("\"name\": \"pc.ram\"", "\"name\": \"..\"", "two RAM blocks named '..'"),
        Change("\"name\": \"pc.ram\"", "\"name\": \"\"", "1 to 255 bytes, not 0"),
        Change(
            "\"name\": \"pc.ram\"", "\"name\": \"\(String(repeating: "n", count: 256))\"",
            "1 to 255 bytes, not 256"),
        Change("\"name\": \"pc.ram\"", "\"name\": \"\\ud800\"", "half a character"),
        Change("\"usedBytes\": 25165824", "\"usedBytes\": 0", "is empty"),
        Change(
            "\"usedBytes\": 25165824", "\"usedBytes\": 25165825", "no multiple of its page size"),
        Change(
            "\"usedBytes\": 25165824", "\"usedBytes\": 27262976",
            "block-0.ram' is damaged, or not a parked machine's: it has 25165824 bytes, expected "
                + "27262976"),
        Change(
            "\"usedBytes\": 25165824", "\"usedBytes\": 18446744073707454464",
            "more than an address space holds"),
        Change(
            "\"hostPageBytes\": 2097152", "\"hostPageBytes\": 2097153",
            "'blocks[0].hostPageBytes' is 2097153 and no power of two"),
        Change("\"hostPageBytes\": 2097152", "\"hostPageBytes\": 2048", "no power of two"),
        Change("\"hostPageBytes\": 2097152", "\"hostPageBytes\": 0", "no power of two"),
        Change("\"hostPageBytes\": 2097152", "\"hostPageBytes\": 4096", "pageSizeSummary"),
        Change("{\n", "[\n", "is due"),
        Change("{\n", "{{\n", "a key is due"),
        Change("{\n", "{\"kind\": 1,\n", "'kind' stands twice"),
    ]

    @Test("a manifest that was changed is refused, and named", arguments: changes)
    func manifest(change: Change) throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let path = folder.place + "/machine.json"
        let text = try readText(path)
        let place = try #require(text.range(of: change.old))
        try write(text.replacingCharacters(in: place, with: change.new), to: path)
        if change.reason == "devices" {
            // Nothing else knows the configuration: it is taken as it stands.
            let machine = try ParkDirectory(opening: folder.place).makeMachine()
            #expect(SampleMachine.differences(machine) == ["configuration"])
            return
        }
        let error = try #require(Self.reading(folder.place))
        #expect("\(error)".contains(change.reason), "\(error)")
        #expect("\(error)".contains("'\(folder.place)/"), "\(error)")
    }

    @Test("a manifest that ends too early is refused at every byte")
    func cutManifest() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let path = folder.place + "/machine.json"
        let bytes = Array(try readText(path).utf8)
        // The last two are the brace and the line break behind it.
        for length in 0..<bytes.count - 1 {
            try #require(unsafe truncate(path, off_t(length)) == 0)
            guard case .damaged(path, _)? = Self.reading(folder.place) else {
                Issue.record("\(length) bytes")
                return
            }
            try Data(bytes).write(to: URL(fileURLWithPath: path))
        }
    }

    @Test("mutations of the manifest are refused or harmless", arguments: 0..<8 as Range<UInt64>)
    func mutated(seed: UInt64) throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let path = folder.place + "/machine.json"
        let original = Array(try readText(path).utf8)
        var random = SeededRandom(seed: seed)
        var refused = 0
        for _ in 0..<250 {
            var bytes = original
            for _ in 0...random.below(3) {
                let at = random.below(bytes.count)
                switch random.below(3) {
                case 0: bytes[at] = UInt8(random.below(256))
                case 1: bytes.remove(at: at)
                default: bytes.insert(UInt8(random.below(256)), at: at)
                }
            }
            try Data(bytes).write(to: URL(fileURLWithPath: path))
            guard let error = Self.reading(folder.place) else { continue }
            refused += 1
            #expect("\(error)".contains(folder.place))
        }
        #expect(refused > 100)
    }

    @Test("files that are gone, cut, longer or no files are refused, and named")
    func files() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        for name in ["devices.bin", "block-0.ram", "block-9.ram"] {
            let (path, aside) = ("\(folder.place)/\(name)", "\(folder.place)/aside")
            func expect(_ reason: String) throws {
                let error = try #require(Self.reading(folder.place), "\(name): \(reason)")
                #expect("\(error)".contains("'\(path)'"), "\(error)")
                #expect("\(error)".contains(reason), "\(error)")
            }
            var status = stat()
            try #require(unsafe stat(path, &status) == 0)
            try #require(unsafe truncate(path, status.st_size - 1) == 0)
            try expect("it has \(status.st_size - 1) bytes, expected \(status.st_size)")
            try #require(unsafe truncate(path, status.st_size + 1) == 0)
            try expect("it has \(status.st_size + 1) bytes, expected \(status.st_size)")
            try #require(unsafe truncate(path, status.st_size) == 0)
            try #require(unsafe rename(path, aside) == 0)
            try expect("No such file or directory")
            try #require(unsafe mkdir(path, 0o700) == 0)
            try expect("it is no regular file")
            try #require(unsafe rmdir(path) == 0)
            try #require(unsafe mkfifo(path, 0o600) == 0)
            try expect("it is no regular file")
            try #require(unsafe unlink(path) == 0)
            try #require(unsafe rename(aside, path) == 0)
            if name == "devices.bin" {
                // Cut and made as long again, its last byte is another one.
                try expect("its CRC-32 is")
                try Data(SampleMachine.devices).write(to: URL(fileURLWithPath: path))
            }
            #expect(Self.reading(folder.place) == nil)
        }
    }

    @Test("a folder without a manifest is no machine")
    func noManifest() throws {
        let folder = try TestFolder()
        #expect(Self.reading(folder.path) == .noManifest(path: folder.path))
        #expect(
            Self.reading(folder.place) == .reading(path: folder.place, .noEntry))
        #expect(Self.reading("") == .badName(path: ""))
        #expect(Self.reading("/tmp\u{0}") == .badName(path: "/tmp\u{0}"))
        try write("", to: folder.place)
        #expect(
            Self.reading(folder.place)
                == .reading(path: folder.place, Errno(rawValue: ENOTDIR)))
        // Half-written: as a kill would leave it.
        let reservation = try ParkDirectory.reserve(folder.path + "/other", bytesNeeded: 0)
        var refused: ParkError?
        try reservation.commit(SampleMachine.make()) { _, _ in
            refused = Self.reading(folder.path + "/other.parking")
        }
        #expect(refused == .noManifest(path: folder.path + "/other.parking"))
    }

    @Test("a manifest too long to be one is not read")
    func longManifest() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let path = folder.place + "/machine.json"
        try #require(unsafe truncate(path, 1 << 40) == 0)
        guard case .damaged(path, let reason)? = Self.reading(folder.place) else {
            Issue.record("\(String(describing: Self.reading(folder.place)))")
            return
        }
        #expect(reason.contains("it has 1099511627776 bytes, expected 1 to 1048576"))
    }

    @Test("a file that goes away after it was checked is told when it is mapped")
    func goneLater() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let parked = try ParkDirectory(opening: folder.place)
        let path = folder.place + "/block-1.ram"
        try #require(unsafe truncate(path, 4096) == 0)
        let error = refusal { () throws(ParkError) in try parked.makeMachine() }
        #expect(
            error
                == .ram(
                    .contentTooShort(
                        block: SampleMachine.names[1], path: path, lengthBytes: 4096,
                        neededBytes: 1 << 14)))
    }
}
