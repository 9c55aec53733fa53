import PageModel
import StreamWire
import TestSupport

/// A small postcopy that a stock QEMU takes at either end, part by part.
struct SmallRecording {
    var opening: [UInt8]
    var discards: [UInt8]
    var package: [UInt8]
    var postcopy: [UInt8]
    var end: [UInt8]
    var urgent: [UInt8]
    var firstAnswers = Self.pong(1)
    /// Answers behind the package.
    var answers: [UInt8] =
        Self.pong(2) + Self.pong(4) + Self.request(0x3000, 0x1000, "ram0") + Self.pong(3)
        + Self.pong(0x42)
    var lastAnswers = Self.message(1, [0, 0, 0, 0])
    var strangers: [RecordedMigration.Entry] = []

    init() {
        var stream = SmallMigration()
        func part(_ body: (inout SmallMigration) -> Void) -> [UInt8] {
            let start = stream.bytes.count
            body(&stream)
            return Array(stream.bytes[start...])
        }
        opening = part {
            $0.begin()
            $0.part(SmallMigration.ram, SmallMigration.ramPages)
        }
        discards = part {
            $0.discard(SmallMigration.ram, 0x3000, 0x2000)
            $0.discard(SmallMigration.ram, 0xa000, 0x1000)
            $0.discard(SmallMigration.huge, 0, 0x20_0000)
            $0.add(.ping(2))
        }
        package = part {
            $0.package()
            $0.add(.ping(4))
        }
        postcopy = part { $0.part(SmallMigration.ram, [0x4000, 0xa000]) }
        end = part {
            $0.part(SmallMigration.huge, SmallMigration.hugePages, isLast: true)
            $0.endOfStream()
        }
        urgent = Self.word(0x3002) + Self.name("ram0") + [0] + Self.word(0x10)
    }

    var migration: RecordedMigration {
        func entry(_ bytes: [UInt8], _ channel: Int, _ isFromSource: Bool) -> [RecordedMigration
            .Entry]
        {
            bytes.isEmpty ? [] : [.init(channel: channel, isFromSource: isFromSource, bytes: bytes)]
        }
        return RecordedMigration(
            entries: entry(opening, 0, true) + entry(firstAnswers, 0, false)
                + entry(discards + package, 0, true) + entry(answers, 0, false)
                + entry(urgent, 1, true) + entry(postcopy + end, 0, true)
                + entry(lastAnswers, 0, false) + strangers)
    }

    // Bytes by hand.

    static func number(_ value: UInt64, _ length: Int) -> [UInt8] {
        (0..<length).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    static func word(_ value: UInt64) -> [UInt8] { number(value, 8) }
    static func name(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

    static func message(_ type: UInt64, _ payload: [UInt8]) -> [UInt8] {
        number(type, 2) + number(UInt64(payload.count), 2) + payload
    }

    static func pong(_ value: UInt64) -> [UInt8] { message(2, number(value, 4)) }

    static func request(_ start: UInt64, _ length: UInt64, _ name: String? = nil) -> [UInt8] {
        let range = word(start) + number(length, 4)
        return name.map { message(3, range + Self.name($0)) } ?? message(4, range)
    }

    static func command(_ number: UInt64, _ payload: [UInt8]) -> [UInt8] {
        [8] + message(number, payload)
    }

    static func discard(
        _ name: String, _ ranges: [(UInt64, UInt64)], version: UInt8 = 0
    ) -> [UInt8] {
        let places = ranges.flatMap { word($0.0) + word($0.1) }
        return command(6, [version] + Self.name(name) + [0] + places)
    }

    /// A section of one record.
    static func section(_ word: UInt64, _ name: String? = nil, _ payload: [UInt8]) -> [UInt8] {
        [2, 0, 0, 0, 7] + Self.word(word) + (name.map(Self.name) ?? []) + payload
            + Self.word(0x10) + [0x7e, 0, 0, 0, 7]
    }

    static func package(_ blob: [UInt8]) -> [UInt8] {
        command(7, number(UInt64(blob.count), 4)) + blob
    }
}

/// A recording in which one thing is wrong.
struct Tampering: CustomStringConvertible, Sendable {
    let law: StockQEMULaw
    let description: String
    let change: @Sendable (inout SmallRecording) -> Void

    init(
        _ law: StockQEMULaw, _ description: String,
        _ change: @escaping @Sendable (inout SmallRecording) -> Void
    ) {
        self.law = law
        self.description = "\(law): \(description)"
        self.change = change
    }
}
