import Foundation
import Glibc
import Parking
import Postcopy
import StreamWire
import TestSupport
import Testing

/// A folder of a test, gone with all that is in it.
final class TestFolder {
    let path: String
    private let isMounted: Bool

    /// - Parameter tmpfs: what the folder holds of a file system of its own, for example `size=4m`.
    init(tmpfs: String? = nil, in parent: String = "/tmp") throws {
        path = "\(parent)/postcopy-park-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        try #require(unsafe mkdir(path, 0o700) == 0)
        isMounted = tmpfs != nil
        guard let tmpfs else { return }
        let answer = unsafe tmpfs.withCString { unsafe mount("none", path, "tmpfs", 0, $0) }
        try #require(answer == 0, "mounting a tmpfs needs root")
    }

    deinit {
        if isMounted { _ = unsafe umount2(path, 2) }  // MNT_DETACH
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Where a machine can be parked.
    var place: String { "\(path)/guest" }
    var temporary: String { "\(path)/guest.parking" }

    var names: [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: path))?.sorted() ?? []
    }

    func remountReadOnly() throws {
        // MS_REMOUNT and MS_RDONLY of mount(2).
        try #require(unsafe mount("none", path, "tmpfs", 32 | 1, nil) == 0)
    }
}

func write(_ text: String, to path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
}

func readText(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
}

/// Whether there is anything at a path, be it a link that leads nowhere.
func isThere(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0
}

func refusal<Value>(_ body: () throws(ParkError) -> Value) -> ParkError? {
    do throws(ParkError) { _ = try body() } catch { return error }
    return nil
}

/// A machine whose memory says which page it is, on some pages; the others are zero.
enum SampleMachine {
    static let devices: [UInt8] = Array("\u{4}devices, opaque".utf8) + [0, 255, 10, 13]
    /// A subsection that every receiver takes.
    static let configuration: [UInt8] =
        [5, 18] + Array("configuration/uuid".utf8) + [0, 0, 0, 1] + (0xf0...0xff)

    /// Block names that would be paths, are as long as can be, or look like files of ours.
    static let names = [
        "pc.ram", "/rom@etc/acpi/tables", "../../../tmp/outside", "..", ".", "machine.json",
        "block-0.ram", "a\"b\\c\n\u{0}\u{7f}", "größe/内存/🧠",
        String(repeating: "é", count: 127) + "x",
    ]

    static let blocks: [StreamIntroduction.Block] = names.enumerated().map { index, name in
        let isLarge = index == 0
        return StreamIntroduction.Block(
            name: name, usedBytes: isLarge ? 24 << 20 : UInt64(index) << 14,
            hostPage: isLarge ? .size2MiB : .target)
    }

    /// Pages of each block that are filled: of a large one few.
    private static func isFilled(_ page: UInt64, ofBlock block: Int) -> Bool {
        block == 0 ? page % 256 < 3 : page % 2 == 0
    }

    private static func word(_ page: UInt64, _ block: Int) -> UInt64 {
        UInt64(block + 1) << 32 | page << 8 | 1
    }

    static func make(
        backing: RAMBacking = .anonymous, _ blocks: [StreamIntroduction.Block] = blocks
    ) throws -> ParkedMachine {
        let machine = try ParkedMachine(
            describedBy: StreamIntroduction(
                machineType: "pc-q35-7.2", configuration: configuration, pageSizeSummary: nil,
                ramSection: 2, blocks: blocks),
            origin: "tcp:192.0.2.1:4444", backing: backing)
        for (block, ram) in machine.memory.enumerated() {
            for page in 0..<ram.usedBytes >> 12 where isFilled(page, ofBlock: block) {
                ram.storeWord(word(page, block), at: page << 12)
                ram.storeWord(word(page, block), at: page << 12 + 4_088)
            }
        }
        try machine.loadDevices(devices)
        return machine
    }

    /// What of a machine differs from what `make` made; of its pages the first few.
    static func differences(
        _ machine: ParkedMachine, _ blocks: [StreamIntroduction.Block] = blocks
    ) -> [String] {
        var found: [String] = []
        if machine.machineType != "pc-q35-7.2" { found.append("machine type") }
        if machine.streamIdentity.configuration != configuration { found.append("configuration") }
        if machine.streamIdentity.ramSection != 2 { found.append("section") }
        if machine.origin != "tcp:192.0.2.1:4444" { found.append("origin") }
        if machine.saveDevices() != devices { found.append("devices") }
        let shapes = machine.memory.map {
            StreamIntroduction.Block(
                name: $0.geometry.name, usedBytes: $0.usedBytes, hostPage: $0.geometry.hostPage)
        }
        guard shapes == blocks else { return found + ["blocks"] }
        for (block, ram) in machine.memory.enumerated() {
            for page in 0..<ram.usedBytes >> 12 {
                let expected = isFilled(page, ofBlock: block) ? word(page, block) : 0
                let isRight =
                    expected == 0
                    ? ram.isZeroPage(at: RAMOffset(rawValue: page << 12))
                    : ram.withPage(at: page << 12, lengthBytes: 4_096) { words in
                        var rest: UInt64 = 0
                        for index in 1..<511 { rest |= words[index] }
                        return words[0] == expected && words[511] == expected && rest == 0
                    }
                if !isRight { found.append("page \(page) of block \(block)") }
                if found.count == 8 { return found }
            }
        }
        return found
    }

    static let totalBytes: UInt64 = blocks.reduce(0) { $0 + $1.usedBytes }
    static let filledBytes: UInt64 = blocks.enumerated().reduce(0) { sum, block in
        let pages = 0..<block.element.usedBytes >> 12
        return sum + UInt64(pages.count { isFilled($0, ofBlock: block.offset) }) << 12
    }
}

/// Parks a machine at once.
func park(_ machine: ParkedMachine, at path: String) throws {
    try ParkDirectory.reserve(path, bytesNeeded: 0).commit(machine)
}
