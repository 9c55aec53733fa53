/// A fault through the runtime next to one through a bare loop, each with a source in another process.
struct FaultSection {
    let settings: Settings

    /// Prints each round.
    func rows() throws -> [Row] {
        var floors: [LatencyFigures] = []
        var ours: [LatencyFigures] = []
        var fills: [Double] = []
        for round in 0..<settings.runs {
            let measurement = Measurement(
                memoryBytes: settings.memoryBytes, faultsMax: 20_000, seed: UInt64(round + 1))
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
        print("background fill meanwhile: \(Int(median(fills) / 1e6)) MB/s (median)")
        let pairs = Array(zip(floors, ours))
        return [
            Row("fault latency mean", unit: "us", pairs: pairs.map { ($0.mean, $1.mean) }),
            Row("fault latency p50", unit: "us", pairs: pairs.map { ($0.p50, $1.p50) }),
            Row("fault latency p99", unit: "us", pairs: pairs.map { ($0.p99, $1.p99) }),
        ]
    }

    private func text(_ figures: LatencyFigures) -> String {
        "mean \(one(figures.mean)) p50 \(one(figures.p50)) p99 \(one(figures.p99)) us "
            + "(\(figures.count) faults)"
    }
}
