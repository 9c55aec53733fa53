internal import Glibc
internal import Postcopy

/// How many waits were how long, as bars whose length is the logarithm of the number.
struct DistributionText {
    private let run: BlocktimeRun

    init(_ run: BlocktimeRun) { self.run = run }

    private struct Bar {
        let label: String
        let count: UInt64
    }

    /// Our own steps, and QEMU's beside them where there is room, else below.
    func lines(columns: Int) -> [String] {
        let own = run.histogram.map { Self.steps($0) } ?? []
        let qemu = Self.buckets(run.dist ?? [])
        let half = (columns - Self.gap) / 2
        guard !own.isEmpty, !qemu.isEmpty, half >= Self.widthMin else {
            let lists = [("", own), ("as QEMU counts them", qemu)].filter { !$0.1.isEmpty }
            return lists.flatMap { title, bars in
                WrappedText.lines(title, columns: columns, margin: FittedTable.margin)
                    + Self.lines(bars, columns: columns)
            }
        }
        let left = ["\(FittedTable.margin)waits"] + Self.lines(own, columns: half)
        let right = ["\(FittedTable.margin)as QEMU counts them"] + Self.lines(qemu, columns: half)
        return (0..<max(left.count, right.count)).map { index in
            let first = index < left.count ? left[index] : ""
            guard index < right.count else { return first }
            return TextColumns.left(first, half + Self.gap) + right[index]
        }
    }

    /// Between two lists.
    private static let gap = 2
    /// What a list needs to stand beside another: its labels, numbers, and some of the bar.
    private static let widthMin = 36
    /// A bar that is shorter says nothing.
    private static let barMin = 4

    private static func lines(_ bars: [Bar], columns: Int) -> [String] {
        let most = bars.map(\.count).max() ?? 0
        let label = bars.map(\.label.count).max() ?? 0
        let number = bars.map { "\($0.count)".count }.max() ?? 0
        let room = columns - FittedTable.margin.count - label - number - 4
        return bars.flatMap { bar -> [String] in
            guard room >= barMin else {
                return WrappedText.lines(
                    "\(bar.label): \(bar.count)", columns: columns, margin: FittedTable.margin)
            }
            let share = most == 0 ? 0 : log1p(Double(bar.count)) / log1p(Double(most))
            let length = bar.count == 0 ? 0 : max(1, Int((share * Double(room)).rounded()))
            let text = [
                TextColumns.right(bar.label, label), TextColumns.right("\(bar.count)", number),
                String(repeating: "#", count: length),
            ]
            return [FittedTable.margin + TextColumns.joined(text)]
        }
    }

    /// Steps of 1, 2 and 5 from the one with the shortest wait to the one with the longest.
    private static func steps(_ histogram: HistogramFigures) -> [Bar] {
        guard let first = histogram.valuesNs.first, let last = histogram.valuesNs.last else {
            return []
        }
        var borders: [UInt64] = [0]
        var decade: UInt64 = 100
        while decade < 1_000_000_000_000 {
            borders += [decade, 2 * decade, 5 * decade]
            decade *= 10
        }
        let start = borders.lastIndex { $0 <= first } ?? 0
        let end = borders.lastIndex { $0 <= last } ?? 0
        var counts = [UInt64](repeating: 0, count: end - start + 1)
        for (value, count) in zip(histogram.valuesNs, histogram.counts) {
            let place = (borders.lastIndex { $0 <= value } ?? 0) - start
            counts[place] = counts[place].adding(count)
        }
        return counts.enumerated().map { index, count in
            Bar(label: "from \(Readable.time(borders[start + index]))", count: count)
        }
    }

    /// From the first one that counts any to the last.
    private static func buckets(_ counts: [UInt64]) -> [Bar] {
        guard let first = counts.firstIndex(where: { $0 > 0 }),
            let last = counts.lastIndex(where: { $0 > 0 })
        else { return [] }
        return (first...last).map { Bar(label: BucketText.name(of: $0), count: counts[$0]) }
    }
}
