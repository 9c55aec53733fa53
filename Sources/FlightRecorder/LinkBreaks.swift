internal import MigrationCore

/// When the destination had no link.
struct LinkBreaks {
    private var spans: [Range<UInt64>] = []

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
    }

    private static func isDown(_ status: String) -> Bool {
        switch MigrationStatus(rawValue: status) {
        case .postcopyPaused, .postcopyRecover: true
        default: false
        }
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
