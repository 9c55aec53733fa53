/// What connects beside a migration's main channel and is no preempt channel of it. That one begins
/// with an offset, which is never as large as either of these words.
///
/// Source: `migration_ioc_process_incoming` (`migration/migration.c`), `MULTIFD_MAGIC`
/// (`migration/multifd.h`).
public enum OtherChannel: Equatable, Sendable {
    /// A channel of a source that has multifd on.
    case multifd
    /// Another migration.
    case migration

    /// The bytes by which one is told.
    public static let wordBytes = 4

    /// What begins with `bytes`; `nil` for anything else, and for fewer than `wordBytes`.
    public init?(beginning bytes: Span<UInt8>) {
        guard bytes.count >= Self.wordBytes else { return nil }
        switch bytes.bigEndian32(at: 0) {
        case StreamFormat.multifdMagic: self = .multifd
        case StreamFormat.magic: self = .migration
        default: return nil
        }
    }
}
