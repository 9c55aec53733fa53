internal import Foundation
internal import Postcopy

/// Where a destination stands, as it tells the process that started it: a line on standard output,
/// ahead of the report, that begins with a mark by which the two are told apart.
struct ProgressLine: JSONReport, Equatable {
    var status: String
    var totalHostPages: Int
    var missingHostPages: Int
    var receivedBytes: UInt64
    var backgroundPages: UInt64
    var urgentPages: UInt64
    var zeroPages: UInt64
    var requests: UInt64
    var faults: UInt64
    var waitingVcpus: Int
    var latency: [UInt64]
    var waitedNs: UInt64
    var breakCount: Int
    /// At the end, where there is room for it.
    var vcpuBlocktimeNs: [UInt64]?

    /// The record separator, which JSON texts in a sequence begin with (RFC 7464) and no report does.
    static let mark: UInt8 = 0x1E

    init(_ progress: DestinationProgress, vcpuBlocktimeNs: [UInt64]? = nil) {
        status = progress.status.rawValue
        totalHostPages = progress.totalHostPages
        missingHostPages = progress.missingHostPages
        receivedBytes = progress.receivedBytes
        backgroundPages = progress.backgroundPages
        urgentPages = progress.urgentPages
        zeroPages = progress.zeroPages
        requests = progress.requests
        faults = progress.faults
        waitingVcpus = progress.waitingVCPUs
        latency = progress.latency.counts
        waitedNs = progress.waitedNanoseconds
        breakCount = progress.recovery.breakCount
        self.vcpuBlocktimeNs = vcpuBlocktimeNs
    }

    /// - Parameter line: without its mark and its end.
    /// - Returns: `nil` for anything else.
    init?(reading line: Data) {
        guard let read = try? Self(decoding: line),
            read.latency.count == LatencyBuckets.bucketCount,
            MigrationStatus(rawValue: read.status) != nil
        else { return nil }
        self = read
    }

    var progress: DestinationProgress {
        var progress = DestinationProgress()
        progress.status = MigrationStatus(rawValue: status) ?? .none
        progress.totalHostPages = totalHostPages
        progress.missingHostPages = missingHostPages
        progress.receivedBytes = receivedBytes
        progress.backgroundPages = backgroundPages
        progress.urgentPages = urgentPages
        progress.zeroPages = zeroPages
        progress.requests = requests
        progress.faults = faults
        progress.waitingVCPUs = waitingVcpus
        progress.latency = LatencyBuckets(counts: latency)
        progress.waitedNanoseconds = waitedNs
        progress.recovery.breakCount = breakCount
        return progress
    }

    var bytes: [UInt8] { [Self.mark] + encodedLine() }

    /// Tells it where somebody reads along; who does not keep up misses it, and nobody waits.
    func send() {
        var line = bytes
        if line.count > StandardOutput.atOnceBytesMax {
            var short = self
            short.vcpuBlocktimeNs = nil
            line = short.bytes
        }
        StandardOutput.writeAtOnce(line)
    }
}

/// Takes a child's standard output apart: lines of progress, and the report behind them.
struct ChildOutput {
    private var rest = Data()
    /// All that is no line of progress.
    private(set) var report = Data()

    /// Takes more in.
    /// - Returns: the newest progress in it.
    mutating func take(_ data: Data) -> ProgressLine? {
        rest += data
        var newest: ProgressLine?
        while rest.first == ProgressLine.mark, let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            newest = ProgressLine(reading: rest[rest.index(after: rest.startIndex)..<end]) ?? newest
            rest = Data(rest[rest.index(after: end)...])
        }
        // A report is the last thing that is said.
        if let first = rest.first, first != ProgressLine.mark {
            report += rest
            rest = Data()
        }
        return newest
    }
}
