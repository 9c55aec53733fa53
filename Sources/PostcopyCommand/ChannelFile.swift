internal import Foundation
internal import Glibc
internal import Postcopy
internal import StreamWire

/// The bytes of one channel, from a file or from standard input, through a window that slides: a file
/// of any length takes the same memory.
final class ChannelFile {
    let path: String
    /// What was read and not dropped yet; the unread begins at `start`.
    private(set) var bytes: [UInt8] = []
    private(set) var start = 0
    /// Where the first unread byte stands in the channel.
    private(set) var position: UInt64 = 0
    /// The length where it is known beforehand.
    let lengthBytes: UInt64?
    private let handle: FileHandle
    /// What the file is called in refusals.
    private let name: String

    /// Enough that a system call costs less than decoding what it brought.
    private static let chunkBytes = 1 << 20
    /// What stays of the bytes already read, to be shown in front of what is wrong.
    private static let historyBytes = 64

    /// - Parameter option: what names the file on the command line, if it is an option that does.
    /// - Throws: `Refusal` for what cannot be read.
    init(path: String, option: String? = nil) throws {
        self.path = path
        let name = option.map { "\($0) \(path)" } ?? path
        self.name = name
        func refusal(_ reason: String) -> Refusal {
            .environment("\(name) cannot be read: \(reason)")
        }
        guard path != "-" else {
            handle = .standardInput
            lengthBytes = nil
            guard isatty(STDIN_FILENO) == 0 else {
                throw Refusal.usage("standard input is a terminal: pipe a stream into it")
            }
            return
        }
        guard !path.isEmpty else { throw Refusal.usage("\(option ?? "<file>") names no file") }
        let place = URL(fileURLWithPath: path).resolvingSymlinksInPath()
        let attributes = try? FileManager.default.attributesOfItem(atPath: place.path)
        guard attributes?[.type] as? FileAttributeType != .typeDirectory else {
            throw refusal("it is a folder; give a file that holds one channel")
        }
        do { handle = try FileHandle(forReadingFrom: place) } catch {
            throw refusal(PlainReason.of(error))
        }
        let isRegular = attributes?[.type] as? FileAttributeType == .typeRegular
        lengthBytes = isRegular ? attributes?[.size] as? UInt64 : nil
    }

    var unreadCount: Int { bytes.count - start }

    /// Reads on; answers whether anything came.
    func fill() throws -> Bool {
        let dropped = max(0, start - Self.historyBytes)
        bytes.removeSubrange(0..<dropped)
        start -= dropped
        do {
            guard let data = try handle.read(upToCount: Self.chunkBytes), !data.isEmpty else {
                return false
            }
            bytes.append(contentsOf: data)
            return true
        } catch {
            throw Refusal.environment("\(name) was not read on: \(PlainReason.of(error))")
        }
    }

    /// Decodes what begins at the first unread byte, which stays unread.
    func decode<Item>(
        _ step: (Span<UInt8>, Int) throws(WireError) -> Decoded<Item>
    ) throws(WireError) -> Decoded<Item> {
        let bytes = bytes
        return try step(bytes.span, start)
    }

    func consume(_ count: Int) {
        start += count
        position += UInt64(count)
    }
}
