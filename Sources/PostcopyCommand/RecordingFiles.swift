internal import Foundation
internal import Postcopy

/// Where what was recorded of faults goes. Tried before anything starts, as the report is.
struct RecordingFiles {
    private let trace: ReportFile
    private let faultLog: ReportFile
    private let isAsked: Bool
    private let isChild: Bool

    /// - Parameter report: which may take standard output for itself.
    /// - Parameter isChild: another process says what there is to say.
    /// - Throws: `Refusal` when a file cannot be written.
    init(_ options: RecordingOptions?, beside report: ReportFile, isChild: Bool) throws {
        self.isChild = isChild
        trace = try ReportFile(path: options?.trace, option: "--trace")
        faultLog = try ReportFile(path: options?.faultLog, option: "--fault-log")
        isAsked = options?.isAsked == true
        guard [report, trace, faultLog].count(where: \.isStandardOutput) <= 1 else {
            throw Refusal.usage(
                "standard output takes one of --json, --trace and --fault-log: give files for the "
                    + "others")
        }
        try ReportFile.checkApart([
            ("--json", report), ("--trace", trace), ("--fault-log", faultLog),
        ])
    }

    var isStandardOutput: Bool { trace.isStandardOutput || faultLog.isStandardOutput }

    /// - Throws: `Refusal` when the disk or the reader does not take it.
    func write(_ log: FaultLog?, _ console: Console) throws {
        guard isAsked else { return }
        guard let log else {
            if isChild { return }
            return console.insist("no faults were recorded: there is no trace and no fault log")
        }
        if case .none = trace {
        } else {
            try trace.write(what: "the trace") { sink in
                try withoutActuallyEscaping(sink) { sink in
                    try PerfettoTrace(log).write { try sink(Data($0)) }
                }
            }
        }
        if case .none = faultLog {
        } else {
            try faultLog.write(Data(FaultLogCodec.encode(log)), what: "the fault log")
        }
    }
}

/// How the destination of a `run` hands its fault log to the source: by a file in a folder of ours,
/// which goes when either process has ended.
struct FaultLogHandOver {
    private let path: String?

    /// - Parameter isAsked: whether somebody wants the log itself; the report's figures alone are no
    ///   reason to refuse a migration where no folder can be made.
    /// - Throws: `Refusal` when it is asked for, and the temporary folder takes none.
    init(leftovers: Leftovers, isAsked: Bool) throws {
        do { path = try PrivateFolder(leftovers: leftovers).faultLogPath } catch {
            if isAsked { throw error }
            path = nil
        }
    }

    /// What the destination is told.
    var arguments: [String] { path.map { ["--fault-log", $0] } ?? [] }

    /// Both sides' log, once the destination has ended; one side's where that is all there is.
    func joined(with source: FaultLog?) -> FaultLog? {
        guard let data = path.flatMap({ FileManager.default.contents(atPath: $0) }),
            let log = try? FaultLogCodec.decode(Array(data))
        else { return source }
        return source.map { log.joined(with: $0) } ?? log
    }
}
