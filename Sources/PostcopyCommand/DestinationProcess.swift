internal import Postcopy
internal import Foundation
internal import Glibc
internal import Synchronization

/// The destination of `run`: this program once more, as `receive`, in a process of its own.
///
/// It holds the reading end of a pipe whose writing end is ours: when this process goes, however, it
/// reads the end and stops. Its report comes over standard output, where it stands ahead of that, its lines over standard error.
final class DestinationProcess: Sendable {
    /// How a process ended.
    struct Ending {
        let document: ReportDocument?
        /// What it said last as an error, or how it died.
        let problem: String?
    }

    /// How long it may take to end before it is made to.
    enum Patience {
        case none
        /// From now on.
        case total(nanoseconds: UInt64)
        /// Since it last said anything.
        case silence(nanoseconds: UInt64)
    }

    private struct State {
        /// Those that were said last.
        var lines: [String] = []
        /// How many there were in all.
        var lineCount = 0
        var isErrorClosed = false
        var report: Data?
        var progress: DestinationProgress?
    }

    let processID: Int32
    private let process: Mutex<Process>
    private let input: FileHandle
    private let state = Mutex(State())
    private let heard: EventFlag
    private let ended: EventFlag

    /// Mapping memory and opening a socket takes milliseconds; hugetlb and a busy host some more.
    private static let announcementNanoseconds: UInt64 = 20_000_000_000
    /// What a process needs to end that was told to.
    private static let endNanoseconds: UInt64 = 2_000_000_000
    /// A link may break without end, and a few lines are said each time.
    private static let linesKept = 1000

    /// Starts `receive` with these arguments.
    /// - Parameter metrics: told where it stands.
    init(arguments: [String], metrics: MigrationMetrics? = nil) throws {
        let process = Process()
        let (input, output, errors) = (Pipe(), Pipe(), Pipe())
        let (heard, ended) = (try EventFlag(), try EventFlag())
        process.executableURL = URL(fileURLWithPath: OwnProgram.path)
        process.arguments = [ReceiveCommand.name] + arguments
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        process.terminationHandler = { _ in ended.raise() }
        do {
            try process.run()
        } catch {
            throw Refusal.environment(
                "the destination process does not start: \(PlainReason.of(error))")
        }
        processID = process.processIdentifier
        self.heard = heard
        self.ended = ended
        self.input = input.fileHandleForWriting
        self.process = Mutex(process)
        let (report, words) = (output.fileHandleForReading, errors.fileHandleForReading)
        Thread.detachNewThread { [self] in collectReport(report, metrics) }
        Thread.detachNewThread { [self] in collectLines(words) }
    }

    /// Waits until it listens, and answers where.
    /// - Throws: `Refusal` with its own words when it ends first.
    func address() throws -> ChannelAddress {
        let deadline = Monotonic.now() + Self.announcementNanoseconds
        while true {
            let (lines, isClosed) = state.withLock { ($0.lines, $0.isErrorClosed) }
            let announced = lines.lazy.compactMap { line -> String? in
                let word = DestinationSide.announcement
                return line.hasPrefix(word) ? String(line.dropFirst(word.count)) : nil
            }.first
            if let announced { return try ChannelAddress(parsing: announced) }
            let now = Monotonic.now()
            if isClosed || Interruption.wasAsked || now >= deadline {
                let ending = end(.none)
                let problem = ending.problem ?? "it does not say where it listens"
                throw Interruption.wasAsked
                    ? .interrupted : Refusal.environment("destination: \(problem)")
            }
            _ = heard.wait(timeoutNanoseconds: min(deadline - now, Attendance.drawNanoseconds))
            heard.clear()
        }
    }

    /// Where it stands, as it said last; `nil` before a source has come.
    var progress: DestinationProgress? { state.withLock { $0.progress } }

    /// Its newest line that is no error.
    var lastLine: String? {
        state.withLock { state in
            state.lines.last { !$0.hasPrefix(ProblemLine.prefix) }
        }
    }

    /// What it has said behind the first `count` lines, as far as that is kept, and how many lines
    /// there were in all.
    func lines(after count: Int) -> (new: [String], count: Int) {
        state.withLock { state in
            (Array(state.lines.suffix(max(0, state.lineCount - count))), state.lineCount)
        }
    }

    /// Tells it that nobody comes back; it gives its guest up then, if it waits for somebody.
    func leaveAlone() { try? input.close() }

    /// Why it is no more, when it ended before its work began.
    var earlyEnd: String? {
        guard isOver else { return nil }
        return "destination: \(end(.none).problem ?? "the process has ended")"
    }

    /// Waits for its end while `attend` is called.
    func end(_ patience: Patience, attend: () -> Void = {}) -> Ending {
        let overdue = wait(patience, attend)
        if !isOver { kill() }
        let process = process.withLock { $0 }
        process.waitUntilExit()
        let (lines, report) = state.withLock { ($0.lines, $0.report) }
        let prefix = ProblemLine.prefix
        let said = lines.last { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
        let died =
            process.terminationReason == .uncaughtSignal
            ? "the process was ended by signal \(process.terminationStatus)" : nil
        let document = report.flatMap { try? ReportDocument(decoding: $0) }
        return Ending(document: document, problem: overdue ?? died ?? said)
    }

    /// Answers what it failed to do in time; nothing when it ended, or when no time was given.
    private func wait(_ patience: Patience, _ attend: () -> Void) -> String? {
        // Summed up look by look: time in which this process itself was stopped does not count.
        var waited: UInt64 = 0
        while !isOver {
            switch patience {
            case .none: return nil
            case .total(let limit) where waited >= limit:
                return "the process did not end within \(Readable.time(limit)) and was killed"
            case .silence(let limit) where waited >= limit:
                return "the process said nothing for \(Readable.time(limit)) and was killed"
            case .total, .silence: break
            }
            let lookedAt = Monotonic.now()
            let isHeard = heard.wait(timeoutNanoseconds: Attendance.drawNanoseconds)
            heard.clear()
            waited += min(Monotonic.now() - lookedAt, Attendance.drawNanoseconds)
            if isHeard, case .silence = patience { waited = 0 }
            attend()
        }
        return nil
    }

    /// Makes it end now: by its input's end, then by a signal that it heeds, then by one that it
    /// cannot refuse. It is our child and not yet waited for, so the id is its own.
    func kill() {
        try? input.close()
        for signal in [SIGTERM, SIGTERM, SIGKILL] {
            if ended.wait(timeoutNanoseconds: Self.endNanoseconds / 4) { return }
            _ = Glibc.kill(processID, signal)
        }
        _ = ended.wait(timeoutNanoseconds: Self.endNanoseconds)
    }

    private var isOver: Bool {
        ended.wait(timeoutNanoseconds: 0)
            && state.withLock { $0.isErrorClosed && $0.report != nil }
    }

    private func collectReport(_ handle: FileHandle, _ metrics: MigrationMetrics?) {
        var output = ChildOutput()
        while true {
            let data = handle.availableData
            guard !data.isEmpty else { break }
            guard let line = output.take(data) else { continue }
            let progress = line.progress
            state.withLock { $0.progress = progress }
            metrics?.tell(progress)
            metrics?.tell(blocktimeNanoseconds: line.vcpuBlocktimeNs ?? [])
        }
        state.withLock { [output] in $0.report = output.report }
        heard.raise()
    }

    private func note(_ line: String) {
        state.withLock { state in
            state.lineCount += 1
            state.lines.append(line)
            if state.lines.count > Self.linesKept { state.lines.removeFirst() }
        }
    }

    private func collectLines(_ handle: FileHandle) {
        var rest = Data()
        while true {
            // `read(upToCount:)` would wait for as many bytes.
            let data = handle.availableData
            guard !data.isEmpty else { break }
            rest += data
            while let newline = rest.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: rest[rest.startIndex..<newline], as: UTF8.self)
                note(line)
                rest = Data(rest[rest.index(after: newline)...])
                heard.raise()
            }
        }
        state.withLock { $0.isErrorClosed = true }
        heard.raise()
    }
}
