import Foundation
import MigrationCore
import TestSupport

/// A precopy of a guest that writes as a trace says: a fluid instead of pages, in seconds of sending.
///
/// Each page is dirty and known to be, or dirty since the last sync, or clean. The cursor passes over
/// the known ones in order; a pass ends in a sync, which makes the hidden ones known.
struct SimulatedPrecopy {
    /// One run of the trace.
    private struct Cells {
        let zone: Int
        let size: Double
        var known: Double
        var hidden = 0.0
    }

    /// The best ending there was, over every instant of the precopy, and what it costs.
    private(set) var best = (cost: Double.infinity, at: 0.0)
    private(set) var time = 0.0
    private(set) var sentSeconds = 0.0
    private(set) var roundsDone: UInt64 = 0
    /// Truly dirty, known or not.
    private(set) var rest = 0.0

    private let trace: DirtyTrace
    private let limitSeconds: Double
    private let zoneSizes: [Double]
    private var cells: [Cells]
    private var cursor = 0
    private var stretch = 0

    init(_ trace: DirtyTrace, limitSeconds: Double) {
        self.trace = trace
        self.limitSeconds = limitSeconds
        cells = trace.runs.map { Cells(zone: $0.zone, size: $0.seconds, known: $0.seconds) }
        zoneSizes = (0..<DirtyTrace.zoneCount).map { zone in
            trace.runs.reduce(0) { $1.zone == zone ? $0 + $1.seconds : $0 }
        }
        rest = trace.totalSeconds
        look()
    }

    /// What is known to be dirty.
    var known: Double { cells.reduce(0) { $0 + $1.known } }

    /// What ending now costs.
    func cost(of ending: SwitchoverDecision.Ending) -> Double {
        time * SwitchoverCost.precopySecond
            + (ending == .completesPrecopy
                ? rest * SwitchoverCost.downtimeSecond
                : rest * SwitchoverCost.postcopySecond + SwitchoverCost.postcopyStart)
    }

    /// Sends until the pass is over, in small steps, and syncs; calls `step` after each of them.
    /// - Returns: what the sync found newly dirty.
    mutating func round(afterStep step: (borrowing SimulatedPrecopy) -> Void) -> Double {
        var ahead = known
        let quantum = min(trace.totalSeconds / 200, max(ahead / 16, 1e-5))
        while cursor < cells.count {
            let sentBefore = sentSeconds
            send(for: write(for: min(quantum, ahead)))
            ahead -= sentSeconds - sentBefore
            look()
            step(self)
        }
        let end = time + trace.syncSeconds
        while time < end - 1e-12 { _ = write(for: end - time) }
        var found = 0.0
        for index in cells.indices {
            found += cells[index].hidden
            cells[index].known += cells[index].hidden
            cells[index].hidden = 0
        }
        cursor = 0
        roundsDone += 1
        // Free of what additions and subtractions have left.
        rest = known
        look()
        return found
    }

    private mutating func look() {
        var cost = cost(of: .postcopy)
        if rest <= limitSeconds { cost = min(cost, self.cost(of: .completesPrecopy)) }
        if cost < best.cost { best = (cost, time) }
    }

    /// Lets the guest write, at most until the trace changes; answers for how long.
    private mutating func write(for longest: Double) -> Double {
        let stretches = trace.stretches
        while stretch + 1 < stretches.count, stretches[stretch].until <= time { stretch += 1 }
        let end = stretches[stretch].until
        // At least a little, so that rounding cannot hold time up.
        let seconds = max(end > time ? min(longest, end - time) : longest, 1e-7)
        let shares = zip(stretches[stretch].rates, zoneSizes).map { rate, size in
            rate > 0 && size > 0 ? 1 - exp(-rate * seconds / size) : 0
        }
        for index in cells.indices {
            let share = shares[cells[index].zone]
            guard share > 0 else { continue }
            let clean = cells[index].size - cells[index].known - cells[index].hidden
            cells[index].hidden += clean * share
            rest += clean * share
        }
        time += seconds
        return seconds
    }

    private mutating func send(for seconds: Double) {
        var left = seconds
        while left > 0, cursor < cells.count {
            let sent = min(cells[cursor].known, left)
            cells[cursor].known -= sent
            left -= sent
            rest -= sent
            sentSeconds += sent
            if cells[cursor].known <= 1e-15 {
                cells[cursor].known = 0
                cursor += 1
            }
        }
    }
}
