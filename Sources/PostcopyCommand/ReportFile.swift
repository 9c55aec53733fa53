internal import Postcopy
internal import Foundation
internal import Synchronization

/// Where the JSON report goes. Tried before anything starts, so that a path that cannot be written
/// shows at once; a file appears only when it is complete.
enum ReportFile {
    case none
    case standardOutput
    /// A device or a pipe: nothing there to replace.
    case special(FileHandle)
    case file(URL)

    var isStandardOutput: Bool { if case .standardOutput = self { true } else { false } }

    /// - Throws: `Refusal` when `path` cannot be written.
    init(path: String?) throws {
        switch path {
        case nil: self = .none
        case "-": self = .standardOutput
        case let path?: self = try Self.tried(path)
        }
    }

    /// - Throws: `Refusal` when the disk or the reader does not take it.
    func write(_ document: some JSONReport) throws {
        do {
            switch self {
            case .none: break
            case .standardOutput:
                try FileHandle.standardOutput.write(contentsOf: document.encoded())
            case .special(let handle): try handle.write(contentsOf: document.encoded())
            // Atomic: written to a temporary file beside the target, which then takes its name.
            case .file(let place): try document.encoded().write(to: place, options: .atomic)
            }
        } catch {
            throw Refusal.environment("the JSON report was not written: \(PlainReason.of(error))")
        }
    }

    private static func tried(_ path: String) throws -> ReportFile {
        func refusal(_ reason: String) -> Refusal {
            .environment("--json \(path) cannot be written: \(reason); give another path")
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
