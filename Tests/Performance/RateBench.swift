import Foundation
import PostcopyRuntime

/// Whether a limit is kept, and what it costs a fault: a background stream of limited rate for five
/// seconds next to what was asked for, and faults under it next to faults under an unlimited one.
enum RateBench {
    static let title =
        "background stream of limited rate over \(seconds) s into a sink, floor: the limit; fault "
        + "latency under a limit of 200 MB/s, floor: without a limit"

    private static let limits: [UInt64] = [200_000_000, 1_000_000_000]
    private static let seconds: UInt64 = 5
    /// What the host needs beside the source's memory.
    private static let spareBytes: UInt64 = 2 << 30

    /// Prints each round.
    static func run(runs: Int = 3) throws -> [Row] {
        var rows: [Row] = []
        for limit in limits { rows.append(try keptRate(limit, runs: runs)) }
        for preempt in [true, false] { rows += try faults(preempt: preempt, runs: runs) }
        return rows
    }

    private static func keptRate(_ limit: UInt64, runs: Int) throws -> Row {
        // A tenth more than the time asks for, in whole pages.
        let memoryBytes = ((limit * seconds / 10 * 11) >> 12) << 12
        let needed = memoryBytes + spareBytes
        precondition(availableBytes >= needed, "the rate section needs \(needed >> 20) MiB")
        var pairs: [(floor: Double, ours: Double)] = []
        for round in 0..<runs {
            var measurement = Measurement(memoryBytes: memoryBytes, faultsMax: 0, seed: 1)
            // Only below what the link takes can a limit be kept. No loopback sends 8 GB/s, so that
            // memory outlasts the time.
            let link = try StreamSink.bytesPerSecond(
                from: measurement, nanoseconds: memoryBytes / 8)
            measurement.options.maxPostcopyBandwidth = limit
            let rate = try StreamSink.bytesPerSecond(
                from: measurement, nanoseconds: seconds * 1_000_000_000)
            pairs.append((Double(limit) / 1e6, rate / 1e6))
            let error = (rate / Double(limit) - 1) * 100
            print(
                String(
                    format: "round %d: %.0f asked, %.2f sent, %+.3f %%, %.0f unlimited, in MB/s",
                    round + 1, Double(limit) / 1e6, rate / 1e6, error, link / 1e6))
        }
        return Row("background limited to \(limit / 1_000_000) MB/s", unit: "MB/s", pairs: pairs)
    }

    private static func faults(preempt: Bool, runs: Int) throws -> [Row] {
        var pairs: [(free: LatencyFigures, limited: LatencyFigures)] = []
        for round in 0..<runs {
            var measurement = Measurement(
                memoryBytes: 512 << 20, faultsMax: 20_000, seed: UInt64(round + 1))
            measurement.options.preempt = preempt
            let free = LatencyFigures(try measurement.runtime().latency)
            measurement.options.maxPostcopyBandwidth = limits[0]
            let limited = LatencyFigures(try measurement.runtime().latency)
            pairs.append((free, limited))
            print(
                String(
                    format: "round %d: preempt %@, p50 and p99 %.1f %.1f us, limited %.1f %.1f us",
                    round + 1, preempt ? "on" : "off", free.p50, free.p99, limited.p50,
                    limited.p99))
        }
        let name = "fault under a limit, preempt \(preempt ? "on" : "off"),"
        return [
            Row("\(name) mean", unit: "us", pairs: pairs.map { ($0.free.mean, $0.limited.mean) }),
            Row("\(name) p50", unit: "us", pairs: pairs.map { ($0.free.p50, $0.limited.p50) }),
            Row("\(name) p99", unit: "us", pairs: pairs.map { ($0.free.p99, $0.limited.p99) }),
        ]
    }

    private static var availableBytes: UInt64 {
        let text = (try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return line.flatMap { UInt64($0.filter(\.isNumber)) }.map { $0 << 10 } ?? 0
    }
}
