import Foundation
import Glibc
import LinuxKernel

/// `postcopy-bench [--memory-mib N] [--runs N] [--json FILE]`: the runtime beside the floor of this
/// machine, taking turns.
@main
struct Bench {
    private var memoryBytes: UInt64 = 512 << 20
    private var runs = 7
    private var json = "bench.json"

    static func main() throws {
        let arguments = CommandLine.arguments
        if arguments.count == 5, arguments[1] == "source", let memory = UInt64(arguments[4]) {
            return try Measurement.beSource(arguments[2], arguments[3], memoryBytes: memory)
        }
        var bench = Bench()
        try bench.parse(Array(arguments.dropFirst()))
        try bench.run()
    }

    private mutating func parse(_ arguments: [String]) throws {
        var rest = arguments[...]
        while let option = rest.popFirst() {
            let value = rest.popFirst()
            switch (option, value.flatMap { Int($0) }, value) {
            case ("--memory-mib", .some(let number), _) where (16...65_536).contains(number):
                memoryBytes = UInt64(number) << 20
            case ("--runs", .some(let number), _) where (1...1_000).contains(number):
                runs = number
            case ("--json", _, .some(let path)):
                json = path
            default:
                let usage =
                    "usage: postcopy-bench [--memory-mib 16...] [--runs 1...] [--json FILE]\n"
                FileHandle.standardError.write(Data(usage.utf8))
                exit(64)
            }
        }
    }

    private func run() throws {
        print(
            "fault latency as the faulting thread sees it, \(memoryBytes >> 20) MiB, random order")
        print("load average before: \(loadAverage())")
        var floors: [LatencyFigures] = []
        var ours: [LatencyFigures] = []
        var fills: [Double] = []
        for round in 0..<runs {
            let measurement = Measurement(
                memoryBytes: memoryBytes, faultsMax: 20_000, seed: UInt64(round + 1))
            let floor = LatencyFigures(try measurement.bareLoop().latency)
            let outcome = try measurement.runtime()
            let own = LatencyFigures(outcome.latency)
            floors.append(floor)
            ours.append(own)
            fills.append(outcome.fillBytesPerSecond ?? 0)
            print(
                "round \(round + 1): bare loop \(text(floor)); runtime \(text(own)), "
                    + "fill \(Int((fills.last ?? 0) / 1e6)) MB/s")
        }
        let pairs = Array(zip(floors, ours))
        let rows = [
            Row("fault latency mean", unit: "us", pairs: pairs.map { ($0.mean, $1.mean) }),
            Row("fault latency p50", unit: "us", pairs: pairs.map { ($0.p50, $1.p50) }),
            Row("fault latency p99", unit: "us", pairs: pairs.map { ($0.p99, $1.p99) }),
        ]
        for row in rows {
            print(
                row.name.padding(toLength: 22, withPad: " ", startingAt: 0)
                    + "floor \(round(row.floor)) us, ours \(round(row.ours)) us, ratio "
                    + "\(two(row.ratio)) (\(two(row.spread[0]))-\(two(row.spread[1])))")
        }
        print("background fill meanwhile: \(Int(median(fills) / 1e6)) MB/s (median)")
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(rows).write(to: URL(fileURLWithPath: json), options: .atomic)
        print("rows written to \(json)")
    }

    private func text(_ figures: LatencyFigures) -> String {
        "mean \(round(figures.mean)) p50 \(round(figures.p50)) p99 \(round(figures.p99)) us "
            + "(\(figures.count) faults)"
    }

    private func two(_ value: Double) -> String { String(format: "%.2f", value) }

    private func loadAverage() -> String {
        var averages = [Double](repeating: 0, count: 3)
        _ = unsafe getloadavg(&averages, 3)
        return averages.map(two).joined(separator: " ")
    }
}
