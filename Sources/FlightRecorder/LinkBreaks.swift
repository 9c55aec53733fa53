internal import MigrationCore

/// When the destination had no link.
struct LinkBreaks {
    /// In their order, apart from each other.
    private var spans: [Range<UInt64>] = []
    /// By span: how long the link was down before it.
    private var downBefore: [UInt64] = []

    init(_ side: FaultLog.Side?) {
        guard let side else { return }
        let phases = side.phases.sorted { $0.at < $1.at }
        for (index, phase) in phases.enumerated() where Self.isDown(phase.status) {
            let next = index + 1 < phases.count ? phases[index + 1].at : .max
            if let last = spans.last, last.upperBound == phase.at {
                spans[spans.count - 1] = last.lowerBound..<next
            } else if phase.at < next {
                spans.append(phase.at..<next)
            }
        }
        var sum: UInt64 = 0
        for span in spans {
            downBefore.append(sum)
            sum += span.upperBound - span.lowerBound
        }
    }

    private static func isDown(_ status: String) -> Bool {
        switch MigrationStatus(rawValue: status) {
        case .postcopyPaused, .postcopyRecover: true
        default: false
        }
    }

    /// How long the link was down from one instant to another.
    /// - Complexity: O(log n) in the breaks.
    func downNanoseconds(from: UInt64, to: UInt64) -> UInt64 { down(until: to) - down(until: from) }

    /// When the last break began that took any of the time from one instant to another.
    func lastBegin(from: UInt64, to: UInt64) -> UInt64? {
        guard from < to else { return nil }
        let place = firstSpan(endingAfter: to - 1)
        let last = place < spans.count && spans[place].lowerBound < to ? place : place - 1
        guard last >= 0, spans[last].upperBound > from else { return nil }
        return spans[last].lowerBound
    }

    private func down(until instant: UInt64) -> UInt64 {
        let place = firstSpan(endingAfter: instant)
        guard place < spans.count else {
            // It lies behind all of them.
            return spans.last.map { (downBefore.last ?? 0) + ($0.upperBound - $0.lowerBound) } ?? 0
        }
        return downBefore[place] + (instant - min(instant, spans[place].lowerBound))
    }

    /// The parts with what lies in a break taken out of them.
    func lay(over parts: [WaitPart], into result: inout [WaitPart]) {
        guard !spans.isEmpty else { return result.append(contentsOf: parts) }
        for part in parts {
            var cursor = part.from
            var index = firstSpan(endingAfter: cursor)
            while index < spans.count, spans[index].lowerBound < part.to {
                let span = spans[index].clamped(to: cursor..<part.to)
                Self.add(part.cause, cursor..<span.lowerBound, to: &result)
                Self.add(.linkDown, span, to: &result)
                cursor = span.upperBound
                index += 1
            }
            Self.add(part.cause, cursor..<part.to, to: &result)
        }
    }

    private static func add(
        _ cause: DelayCause, _ span: Range<UInt64>, to parts: inout [WaitPart]
    ) {
        guard !span.isEmpty else { return }
        guard let last = parts.last, last.cause == cause, last.to == span.lowerBound else {
            return parts.append(
                WaitPart(cause: cause, from: span.lowerBound, to: span.upperBound))
        }
        parts[parts.count - 1] = WaitPart(cause: cause, from: last.from, to: span.upperBound)
    }

    private func firstSpan(endingAfter instant: UInt64) -> Int {
        var low = 0
        var high = spans.count
        while low < high {
            let middle = (low + high) / 2
            if spans[middle].upperBound > instant { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
