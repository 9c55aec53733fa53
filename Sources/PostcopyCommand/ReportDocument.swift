internal import Foundation

/// The report as JSON. Keys are these names in QMP's style, and QEMU's own names where QEMU has
/// one; times are nanoseconds. A side that did not happen, or is not known here, is left out.
struct ReportDocument: JSONReport, Equatable {
    /// Grows when a key changes its meaning or goes.
    static let currentSchema = 1

    var schema = currentSchema
    var command: String
    var status: String
    var errorDesc: String?
    var totalTimeNs: UInt64?
    var downtimeNs: UInt64?
    /// How long the workload would have stopped had it moved with its rest at the last look.
    var expectedDowntimeNs: UInt64?
    var switchover: SwitchoverFigures?
    var rounds: [RoundFigures]?
    var discards: DiscardFigures?
    /// The most that the vCPUs were throttled.
    var cpuThrottlePercentage: UInt64?
    var ram: RAMFigures
    var postcopyBlocktimeNs: UInt64?
    var postcopyVcpuBlocktimeNs: [UInt64]?
    var postcopyLatencyNs: LatencyFigures?
    /// Waits by powers of two of microseconds, as QEMU counts them (`LatencyBuckets`).
    var postcopyLatencyDist: [UInt64]?
    /// The same by vCPU, and every wait of every thread by its length.
    var postcopyVcpuLatencyNs: [LatencyFigures]?
    var postcopyLatencyHistogram: HistogramFigures?
    /// Threads that are no vCPU, by name.
    var postcopyOtherLatencyNs: [NamedLatencyFigures]?
    /// What the flight recorder says of the waits.
    var flight: FlightFigures?
    /// Where the migration stood as it went on, at most 600 instants.
    var samples: [SampleFigures]?
    var verify: VerifyFigures?
    /// Pages that the destination never got.
    var missing: [MissingFigures]?
    /// Breaks of the link that were asked for, in the order in which they came.
    var cuts: [CutFigures]?
    /// How many were asked for: fewer come where the migration is over sooner.
    var cutsAsked: Int?
    /// vCPUs that found lost memory when the guest was given up.
    var vcpusInLostMemory: Int?
    /// Those of the source where both sides are known.
    var phases: [PhaseFigures]
    var channels: ChannelFigures
    var workload: WorkloadFigures?
    /// Long accesses as the vCPUs themselves saw them, one entry for each.
    var workloadStalls: [StallFigures]?
    /// A machine that somebody else configured, in place of a workload.
    var guest: GuestFigures?
    var relay: RelayFigures?
    var machine: MachineFigures
    var source: SideFigures?
    var destination: SideFigures?
}

/// What is written as JSON, with keys in QMP's style.
protocol JSONReport: Codable {}

extension JSONReport {
    func encoded() -> Data { encoded([.prettyPrinted]) }

    /// In one line, for those who talk in lines.
    func encodedLine() -> Data { encoded([]) }

    private func encoded(_ formatting: JSONEncoder.OutputFormatting) -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = formatting.union([.sortedKeys, .withoutEscapingSlashes])
        encoder.keyEncodingStrategy = .custom { path in
            NameKey(KebabCase.kebab(path.last?.stringValue ?? ""))
        }
        // Numbers, texts and optionals only: nothing here that JSON cannot hold.
        guard let data = try? encoder.encode(self) else { fatalError("a report did not encode") }
        return data + Data("\n".utf8)
    }

    init(decoding data: Data) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .custom { path in
            NameKey(KebabCase.camel(path.last?.stringValue ?? ""))
        }
        self = try decoder.decode(Self.self, from: data)
    }
}

struct RAMFigures: Codable, Equatable {
    var total: UInt64
    var pageSize: UInt64
    /// Target pages sent as content, and as zero.
    var normal: UInt64?
    var duplicate: UInt64?
    var transferred: UInt64?
    var remaining: UInt64?
    var precopyBytes: UInt64?
    var downtimeBytes: UInt64?
    var postcopyBytes: UInt64?
    var postcopyRequests: UInt64?
    /// Of the precopy as it ended: syncs of the dirty bitmap, pages dirtied a second, pages and
    /// megabits sent a second.
    var dirtySyncCount: Int?
    var dirtyPagesRate: UInt64?
    var pagesPerSecond: UInt64?
    var mbps: Double?
    /// Given back by the source as it was sent.
    var releasedBytes: UInt64?
    /// Target pages placed by the urgent channel, and by the stream.
    var urgentPages: UInt64?
    var backgroundPages: UInt64?
}

struct LatencyFigures: Codable, Equatable {
    var count: UInt64
    var mean: UInt64
    var p50: UInt64
    var p90: UInt64
    var p99: UInt64
    var p999: UInt64
    var max: UInt64
}

struct NamedLatencyFigures: Codable, Equatable {
    var name: String
    var totalNs: UInt64
    var latency: LatencyFigures
}

struct VerifyFigures: Codable, Equatable {
    var pages: Int
    /// Pages that differ in at least one byte, and the words of 8 bytes that do.
    var mismatches: Int
    var mismatchedWords: Int
    /// vCPUs whose own state is not where their steps lead.
    var vcpuMismatches: Int
    var steps: UInt64
    /// Which side's memory it is.
    var side: String

    var isClean: Bool { mismatches == 0 && vcpuMismatches == 0 }
}

struct MissingFigures: Codable, Equatable {
    var block: String
    var hostPages: Int
    var bytes: UInt64
}

struct PhaseFigures: Codable, Equatable {
    var status: String
    /// From the start of the side's migration.
    var atNs: UInt64
    var durationNs: UInt64
}

struct ChannelFigures: Codable, Equatable {
    var uri: String
    var transport: String
    /// Known at the source, which decides.
    var preempt: Bool?
    /// What stood between the two sides, to cut them off from each other.
    var proxy: String?
}

struct WorkloadFigures: Codable, Equatable {
    var memory: UInt64
    var backing: String
    var pageSize: UInt64
    var vcpus: Int
    var pattern: String
    var writeFraction: Double
    var hotSet: UInt64
    var fill: String
    var rate: UInt64
    var seed: UInt64
}

struct StallFigures: Codable, Equatable {
    var count: UInt64
    var totalNs: UInt64
    var maxNs: UInt64
}

struct MachineFigures: Codable, Equatable {
    var cpus: Int
    var kernel: String
    var loadAverage: [Double]
}

/// What one side says of itself; instants are of this host's `CLOCK_MONOTONIC`.
struct SideFigures: Codable, Equatable {
    var pid: Int32
    var status: String
    var errorDesc: String?
    var guestRunsHere: Bool
    var startedAtNs: UInt64
    var endedAtNs: UInt64
    var guestStoppedAtNs: UInt64?
    var guestRunningAtNs: UInt64?
    var phases: [PhaseFigures]
    var faults: UInt64?
    var requests: UInt64?
    /// Target pages placed as zero.
    var zeroPages: UInt64?
    var receivedBytes: UInt64?
    var faultOrigin: String?
    var peakResidentBytes: UInt64?
    /// Memory mapped by huge pages: at the source, and at the destination before the postcopy and
    /// after it.
    var hugeBytesAtStart: UInt64?
    var hugeBytesAtEnd: UInt64?
    /// Huge pages rebuilt, and how long that took; only when it was asked for.
    var healedRanges: Int?
    var healNs: UInt64?
    /// Why memory that was to be locked is not.
    var lockProblem: String?
    /// Breaks of the link once the guest had moved: the first and the latest, and how many there were.
    var breaks: [BreakFigures]?
    var breakCount: Int?
    /// Somebody gave the guest up while the link was down.
    var isAbandoned: Bool?
}

/// Swift's names and QMP's: `totalTimeNs` and `total-time-ns`.
enum KebabCase {
    static func kebab(_ name: String) -> String {
        var result = ""
        for character in name {
            if character.isUppercase { result += "-" }
            result += character.lowercased()
        }
        return result
    }

    static func camel(_ name: String) -> String {
        let words = name.split(separator: "-")
        return words.prefix(1).joined() + words.dropFirst().map(\.capitalized).joined()
    }
}

private struct NameKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.init(stringValue) }
    init?(intValue: Int) { nil }
}
