internal import Postcopy

extension Progress {
    private static let gaugeCellsMin = 10
    private static let gaugeCellsMax = 40

    /// The live view: its first line says the phase and how much is done, the next ones the details,
    /// the last one what was waited for pages.
    ///
    /// No line is wider than `columns` less one, so that the cursor never wraps, and there is a line less
    /// than `rows`: more would push what stands above out of the screen, with every frame.
    func frame(columns: Int, rows: Int = .max, style: ViewStyle) -> [ViewLine] {
        let room = max(0, columns - 1)
        var lines = [headline(room, style)]
        lines += Self.flowed(details, room, style)
        if let waits { lines += waits.lines(room, style) }
        return Array(lines.prefix(max(1, rows - 1)))
    }

    private func headline(_ room: Int, _ style: ViewStyle) -> ViewLine {
        var line = ViewLine(room: room)
        let number = percent.map { String(repeating: " ", count: max(1, 5 - $0.count)) + $0 } ?? ""
        let left = max(0, room - number.count)
        let name = ViewLine.width(of: phase, in: style) <= left ? phase : String(phase.prefix(left))
        line.add(name, isWarning ? .warning : .phase, in: style)
        let cells = min(Self.gaugeCellsMax, left - line.width - 3)
        if let fraction, cells >= Self.gaugeCellsMin {
            line.add(" [\(Self.gauge(fraction, cells, style))]", in: style)
        }
        line.add(number, in: style)
        return line
    }

    private static func gauge(_ fraction: Double, _ cells: Int, _ style: ViewStyle) -> String {
        let full = Int(fraction * Double(cells))
        return String(repeating: style.isUnicode ? "█" : "#", count: full)
            + String(repeating: style.isUnicode ? "░" : "-", count: cells - full)
    }

    /// Texts side by side in as many lines as they need; none is broken that fits into a line.
    static func flowed(_ texts: [String], _ room: Int, _ style: ViewStyle) -> [ViewLine] {
        var lines: [ViewLine] = []
        for text in texts where room > 0 {
            let width = ViewLine.width(of: text, in: style)
            if var last = lines.popLast() {
                if last.width + 3 + width <= room {
                    last.add("   \(text)", in: style)
                    lines.append(last)
                    continue
                }
                lines.append(last)
            }
            var line = ViewLine(room: room)
            line.add(width < room ? " \(text)" : text, in: style)
            lines.append(line)
        }
        return lines
    }
}

/// Waits of the last moments, by their length.
struct RecentWaits: Equatable, Sendable {
    let buckets: LatencyBuckets

    /// A strip of bars, one for each power of two of microseconds, and what half and nearly all of the
    /// waits were shorter than.
    func lines(_ room: Int, _ style: ViewStyle) -> [ViewLine] {
        let strip = strip(room, style)
        let words = [strip, percentile(50, "p50"), percentile(99, "p99")].compactMap(\.self)
        return Progress.flowed(words.filter { !$0.isEmpty }, room, style)
    }

    private func strip(_ room: Int, _ style: ViewStyle) -> String {
        let all = Self.bars(buckets.counts, style)
        let whole = "1us \(all) 8s"
        for text in ["waits \(whole)", whole] where text.count < room { return text }
        if all.count < room { return all }
        // Two buckets in one.
        let pairs = stride(from: 0, to: buckets.counts.count, by: 2).map {
            buckets.counts[$0] + buckets.counts[$0 + 1]
        }
        let half = Self.bars(pairs, style)
        return half.count < room ? half : ""
    }

    private static func bars(_ counts: [UInt64], _ style: ViewStyle) -> String {
        let levels: [Character] = Array(style.isUnicode ? "▁▂▃▅▇" : ".:=#@")
        let most = max(1, counts.max() ?? 0)
        return String(
            counts.map { count in
                guard count > 0 else { return style.isUnicode ? "·" : " " }
                let height = Double(count) / Double(most) * Double(levels.count)
                return levels[max(0, Int(height.rounded(.up)) - 1)]
            })
    }

    /// `nil` where nothing was waited for.
    func percentile(_ percent: UInt64, _ name: String) -> String? {
        let total = buckets.total
        guard total > 0 else { return nil }
        // The smallest number of waits that is so many of them.
        let wanted = max(1, (total * percent + 99) / 100)
        var sum: UInt64 = 0
        for (bucket, count) in buckets.counts.enumerated() {
            sum += count
            guard sum >= wanted else { continue }
            return bucket == LatencyBuckets.bucketCount - 1
                ? "\(name) over \(Readable.time(UInt64(1_000) << UInt64(bucket)))"
                : "\(name) under \(Readable.time(UInt64(2_000) << UInt64(bucket)))"
        }
        return nil
    }
}

/// Finds the waits of the last second in counts that only grow.
struct RecentWaitsMeter: Sendable {
    private var looks: [(at: UInt64, buckets: LatencyBuckets)] = []

    private static let spanNanoseconds: UInt64 = 1_000_000_000
    /// Ten a second are drawn; more often looked at, the strip is of a shorter time.
    private static let looksMax = 12

    /// - Parameter buckets: all waits that there ever were.
    mutating func recent(_ buckets: LatencyBuckets, at now: UInt64) -> RecentWaits {
        // One look may be older than the span: what came behind it is what was in it.
        while looks.count > 1, now - looks[1].at >= Self.spanNanoseconds { looks.removeFirst() }
        if looks.count == Self.looksMax { looks.removeFirst() }
        looks.append((now, buckets))
        return RecentWaits(
            buckets: LatencyBuckets(
                counts: zip(buckets.counts, looks[0].buckets.counts).map { $0 - min($0, $1) }))
    }
}
