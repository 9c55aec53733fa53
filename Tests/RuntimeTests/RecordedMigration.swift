import StreamWire
import Synchronization

/// What two ends of a migration wrote, in an order in which everything stands behind what it answers:
/// bytes are noted before they are passed on.
struct RecordedMigration {
    /// Bytes of one channel in one direction. Channel 0 is the main channel, in order of connection.
    struct Entry {
        let channel: Int
        let isFromSource: Bool
        var bytes: [UInt8]
    }

    var entries: [Entry] = []

    /// All of a channel in one direction.
    func bytes(channel: Int, isFromSource: Bool) -> [UInt8] {
        entries.filter { $0.channel == channel && $0.isFromSource == isFromSource }
            .flatMap(\.bytes)
    }
}

/// Notes a migration while it runs; for a proxy's threads.
final class MigrationRecorder: Sendable {
    private let recorded = Mutex(RecordedMigration())

    var migration: RecordedMigration { recorded.withLock { $0 } }

    func note(_ bytes: [UInt8], channel: Int, isFromSource: Bool) {
        recorded.withLock {
            $0.entries.append(.init(channel: channel, isFromSource: isFromSource, bytes: bytes))
        }
    }

    /// What is passed on: the source's question for extensions in their first version, to which nothing
    /// is offered that a source would write differently for. So a recording is what a QEMU would see.
    func asForStockQEMU(_ bytes: [UInt8]) -> [UInt8] {
        let question = Self.ping(Extensions.question)
        guard let place = bytes.firstRange(of: question) else { return bytes }
        let first = Extensions.question & 0xFFFF_0000 | 1
        var passed = bytes
        passed.replaceSubrange(place, with: Self.ping(first))
        return passed
    }

    private static func ping(_ value: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendCommand(.ping(value), blocks: [], to: &bytes)
        return bytes
    }
}
