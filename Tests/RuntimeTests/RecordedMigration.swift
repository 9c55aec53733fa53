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
}
