public import MigrationCore

/// How far a fault handler has come.
public struct FaultProgress: Equatable, Sendable {
    /// Where a handler stands.
    public enum State: Equatable, Sendable {
        /// Not started yet.
        case ready
        /// Faults are answered.
        case serving
        /// Nobody answers any more.
        case stopped
        /// By itself: nobody is served any more.
        case ended(FaultHandlerError)
    }

    /// Where the handler stands.
    public internal(set) var state = State.ready
    /// Faults that were read.
    public internal(set) var faults: UInt64 = 0
    /// Host pages that were placed because somebody waited, and in the background.
    public internal(set) var urgentPages: UInt64 = 0
    /// Host pages that `prefetch` and `fill` placed.
    public internal(set) var backgroundPages: UInt64 = 0
    /// Those among them that were placed as zeros.
    public internal(set) var zeroPages: UInt64 = 0
    /// Pages, as the kernel places them, that were there already.
    public internal(set) var alreadyPresentPages: UInt64 = 0
    /// Target pages that their user gave up, and that read as zeros since.
    public internal(set) var removedPages: UInt64 = 0
    /// Pages that could not be served although somebody waited.
    public internal(set) var lostPages: UInt64 = 0
    /// Calls of the provider that threw.
    public internal(set) var providerErrors: UInt64 = 0
    /// Placings that had to wait for an event to be read, or for whoever caused it to go on.
    public internal(set) var interruptedPlacings: UInt64 = 0
    /// Host pages that were neither placed nor given up, as far as the handler knows: those that were
    /// there when it started, and were never touched since, are among them.
    public internal(set) var missingPages = 0

    /// Nothing served yet.
    public init() {}
}

extension FaultProgress: CustomStringConvertible {
    /// One line; what is 0 and mostly stays so is left out.
    public var description: String {
        var figures = [
            "\(faults) faults", "\(urgentPages) pages asked for",
            "\(backgroundPages) brought ahead", "\(missingPages) missing",
        ]
        let rare: [(count: UInt64, what: String)] = [
            (zeroPages, "of zeros"), (alreadyPresentPages, "there already"),
            (removedPages, "given up"), (lostPages, "lost"), (providerErrors, "reads failed"),
            (interruptedPlacings, "placings interrupted"),
        ]
        figures += rare.filter { $0.count > 0 }.map { "\($0.count) \($0.what)" }
        return "\(state): \(figures.joined(separator: ", "))"
    }
}

extension FaultProgress.State: CustomStringConvertible {
    public var description: String {
        switch self {
        case .ready: "ready"
        case .serving: "serving"
        case .stopped: "stopped"
        case .ended(let error): "ended (\(error))"
        }
    }
}

/// What a fault handler did.
public struct FaultReport: Sendable {
    /// As it stood when the handler had stopped; `missingPages` are those that were never served.
    public let progress: FaultProgress
    /// How long threads waited for pages; those of a process that told no thread ids are counted as
    /// untracked.
    public let blocktime: BlocktimeReport
    /// From the reading of a fault to the page's placing, of all faults.
    public let latency: LatencySummary
    /// The pages that faulted, in the order in which each first did.
    public let trace: FaultTrace
    /// The first 64 pages that could not be served.
    public let lost: [LostPage]
    /// What became of the pages that were still missing; `nil` where nobody was served any more.
    public let missingAtStop: LostPage.Outcome?
    /// What the provider or the kernel last answered of a page in the background, where nobody waited.
    public let backgroundProblem: String?
    /// `nil` when it was stopped, or what ended it.
    public let error: FaultHandlerError?

    /// The same without what takes room: the pages that faulted and the waits of threads.
    public var inShort: FaultReport {
        FaultReport(
            progress: progress, blocktime: Self.noWaits, latency: latency,
            trace: FaultTrace(checked: [], pages: []), lost: lost, missingAtStop: missingAtStop,
            backgroundProblem: backgroundProblem, error: error)
    }

    /// One for all of them: its histogram is large.
    private static let noWaits: BlocktimeReport = {
        var blocktime = Blocktime(vcpuThreads: [])
        return blocktime.finish(at: 0)
    }()
}
