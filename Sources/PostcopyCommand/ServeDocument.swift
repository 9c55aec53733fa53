internal import Foundation
internal import Postcopy

/// The report of `serve-faults` as JSON. Times are nanoseconds.
struct ServeDocument: JSONReport, Equatable {
    /// Grows when a key changes its meaning or goes.
    static let currentSchema = 1

    var schema = currentSchema
    var command = ServeFaultsCommand.name
    /// "served", "failed" or "interrupted".
    var status: String
    var errorDesc: String?
    var socket: String
    var content: ContentFigures
    var clients: [ServedClientFigures]
    /// Of a machine that came over the network.
    var arrival: ArrivalFigures?
    var machine: MachineFigures

    init(
        socket: String, outcomes: [ClientOutcome], source: any PageSource, problem: String?,
        machine: MachineFigures
    ) {
        self.socket = socket
        content = ContentFigures(source.content)
        clients = outcomes.map(ServedClientFigures.init)
        arrival = source.figures
        self.machine = machine
        // What was refused is nobody's trouble where clients were served.
        let hasServed = outcomes.contains { $0.report != nil }
        let clients = outcomes.filter { !$0.isRefused || !hasServed }
        errorDesc = ([problem] + clients.map(\.problem)).compactMap(\.self).first
        if errorDesc == nil, clients.isEmpty { errorDesc = "no client came" }
        status = errorDesc == nil ? "served" : Interruption.wasAsked ? "interrupted" : "failed"
    }

    /// What went wrong, in one line; `nil` when nothing did.
    var failureLine: String? {
        switch status {
        case "served": nil
        case "interrupted": "interrupted: \(errorDesc ?? "no reason is known")"
        default: errorDesc ?? "no reason is known"
        }
    }
}

struct ContentFigures: Codable, Equatable {
    /// "memory-file", "park" or "from".
    var kind: String
    var place: String
    var bytes: UInt64

    init(_ content: JoinedContent) {
        kind = content.kind.rawValue
        place = content.place
        bytes = content.lengthBytes
    }
}

/// How a machine came that was served meanwhile.
struct ArrivalFigures: Codable, Equatable {
    var status: String
    var errorDesc: String?
    var receivedBytes: UInt64
    var requests: UInt64
    var missingPages: Int
    var breaks: Int

    init(_ progress: DestinationProgress, _ report: DestinationReport?) {
        status = (report?.status ?? progress.status).rawValue
        errorDesc = report?.problem
        receivedBytes = progress.receivedBytes
        requests = progress.requests
        missingPages = progress.missingHostPages
        breaks = progress.recovery.breakCount
    }
}

struct ServedClientFigures: Codable, Equatable {
    struct Region: Codable, Equatable {
        var address: UInt64
        var bytes: UInt64
        var offset: UInt64
        var pageSize: UInt64
    }

    struct Lost: Codable, Equatable {
        var address: UInt64
        var outcome: String
        var errorDesc: String
    }

    var pid: Int32?
    /// "gone", "has-everything", "stopped", "incomplete", "refused" or "failed".
    var ending: String
    var errorDesc: String?
    var lastedNs: UInt64
    var bytes: UInt64
    var regions: [Region]
    var faults: UInt64?
    /// Pages of the regions' sizes.
    var urgentPages: UInt64?
    var backgroundPages: UInt64?
    var zeroPages: UInt64?
    var missingPages: Int?
    /// What its balloon gave up.
    var removedBytes: UInt64?
    var lostPages: UInt64?
    /// The first of them.
    var lost: [Lost]?
    var providerErrors: UInt64?
    /// Why pages could not be brought ahead, where nobody waited.
    var aheadErrorDesc: String?
    /// From the reading of a fault to the page's placing.
    var latencyNs: LatencyFigures?

    init(_ outcome: ClientOutcome) {
        pid = outcome.process
        ending = outcome.ending.word
        errorDesc = outcome.problem
        lastedNs = outcome.endedAtNanoseconds - outcome.startedAtNanoseconds
        bytes = outcome.lengthBytes
        regions = outcome.regions.map { region in
            Region(
                address: region.address.rawValue, bytes: region.geometry.lengthBytes,
                offset: region.contentOffset, pageSize: region.geometry.hostPage.bytes)
        }
        guard let report = outcome.report else { return }
        let progress = report.progress
        faults = progress.faults
        urgentPages = progress.urgentPages
        backgroundPages = progress.backgroundPages
        zeroPages = progress.zeroPages
        missingPages = progress.missingPages
        removedBytes = progress.removedPages << 12
        lostPages = progress.lostPages
        lost = report.lost.isEmpty ? nil : report.lost.map(Lost.init)
        providerErrors = progress.providerErrors
        aheadErrorDesc = report.backgroundProblem
        latencyNs = report.latency.count == 0 ? nil : LatencyFigures(report.latency)
    }
}

extension ServedClientFigures.Lost {
    init(_ lost: LostPage) {
        address = lost.address.rawValue
        outcome = "\(lost.outcome)"
        errorDesc = lost.problem
    }
}

extension ClientOutcome.Ending {
    var word: String {
        switch self {
        case .gone: "gone"
        case .hasEverything: "has-everything"
        case .stopped: "stopped"
        case .incomplete: "incomplete"
        case .refused: "refused"
        case .failed: "failed"
        }
    }
}
