internal import Postcopy
internal import Foundation
internal import Synchronization

/// Where a report goes. Tried before anything starts, so that a path that cannot be written
/// shows at once; a file appears only when it is complete.
enum ReportFile {
    case none
    case standardOutput
    /// A device or a pipe: nothing there to replace.
    case special(FileHandle)
    case file(URL)

    var isStandardOutput: Bool { if case .standardOutput = self { true } else { false } }

    /// - Parameter option: what names the path on the command line.
    /// - Throws: `Refusal` when `path` cannot be written.
    init(path: String?, option: String = "--json") throws {
        switch path {
        case nil: self = .none
        case "-": self = .standardOutput
        case let path?: self = try Self.tried(path, option)
        }
    }

    /// - Throws: `Refusal` when the disk or the reader does not take it.
    func write(_ document: some JSONReport) throws {
        if case .none = self { return }
        try write(document.encoded(), what: "the JSON report")
    }

    /// - Parameter what: what the bytes are, for the refusal.
    /// - Throws: `Refusal` when the disk or the reader does not take it.
    func write(_ data: Data, what: String) throws {
        try write(what: what) { try $0(data) }
    }

    /// Writes what comes in pieces, as long as it may be.
    /// - Throws: `Refusal` when the disk or the reader does not take it.
    func write(what: String, _ body: (_ sink: (Data) throws -> Void) throws -> Void) throws {
        do {
            switch self {
            case .none: break
            case .standardOutput: try body { try FileHandle.standardOutput.write(contentsOf: $0) }
            case .special(let handle): try body { try handle.write(contentsOf: $0) }
            case .file(let place): try Self.replace(place, body)
            }
        } catch let error as Errno {
            throw Refusal.environment("\(what) was not written: \(error)")
        } catch {
            throw Refusal.environment("\(what) was not written: \(PlainReason.of(error))")
        }
    }

    /// Writes a temporary file beside the target, which then takes its name.
    private static func replace(
        _ place: URL, _ body: (_ sink: (Data) throws -> Void) throws -> Void
    ) throws {
        let files = FileManager.default
        let before = try? files.attributesOfItem(atPath: place.path)
        let part = place.appendingPathExtension("\(UInt32.random(in: 0 ... .max)).part")
        do {
            try Data().write(to: part, options: .withoutOverwriting)
            let handle = try FileHandle(forWritingTo: part)
            try body { try handle.write(contentsOf: $0) }
            try handle.close()
            if let mode = before?[.posixPermissions] {
                try files.setAttributes([.posixPermissions: mode], ofItemAtPath: part.path)
            }
            try DiskFile.move(part.path, onto: place.path)
        } catch {
            try? files.removeItem(at: part)
            throw error
        }
    }

    private static func tried(_ path: String, _ option: String) throws -> ReportFile {
        func refusal(_ reason: String) -> Refusal {
            .environment("\(option) \(path) cannot be written: \(reason); give another path")
        }
        guard !path.isEmpty, !path.hasSuffix("/") else { throw refusal("it names no file") }
        // A report goes where a link points, and does not replace the link.
        let place = URL(fileURLWithPath: path).resolvingSymlinksInPath()
        let attributes = try? FileManager.default.attributesOfItem(atPath: place.path)
        let type = attributes?[.type] as? FileAttributeType
        if type == .typeDirectory { throw refusal("it is a folder") }
        if let type, type != .typeRegular {
            guard let opened = try open(place.path) else { throw refusal("nobody reads it") }
            guard let handle = opened.handle else { throw refusal("it may not be opened") }
            return .special(handle)
        }
        if type != nil, !FileManager.default.isWritableFile(atPath: place.path) {
            throw refusal("the file that is there is read-only")
        }
        let trial = place.appendingPathExtension("\(UInt32.random(in: 0 ... .max)).trial")
        do {
            try Data().write(to: trial, options: .withoutOverwriting)
            try FileManager.default.removeItem(at: trial)
        } catch {
            throw refusal(PlainReason.of(error, at: place))
        }
        return .file(place)
    }

    /// Opening a pipe waits for a reader; one that was started beside this process needs no longer.
    private static let readerNanosecondsMax: UInt64 = 1_000_000_000

    /// What became of opening a file; no handle when it is refused.
    private struct Opened: Sendable {
        let handle: FileHandle?
    }

    /// Opens a device or a pipe; `nil` when it does not open in time. The thread that waits in the
    /// kernel then stays there, for the little that this process still lives.
    private static func open(_ path: String) throws -> Opened? {
        let result = ResultPlace()
        let done = try EventFlag()
        Thread.detachNewThread {
            result.opened.withLock { $0 = Opened(handle: FileHandle(forWritingAtPath: path)) }
            done.raise()
        }
        let deadline = Monotonic.now() + readerNanosecondsMax
        while !done.wait(timeoutNanoseconds: Attendance.drawNanoseconds) {
            if Interruption.heed() { throw Refusal.interrupted }
            if Monotonic.now() >= deadline { return nil }
        }
        return result.opened.withLock { $0 }
    }

    private final class ResultPlace: Sendable {
        let opened = Mutex<Opened?>(nil)
    }
}
