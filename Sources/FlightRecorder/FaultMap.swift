/// Counts by time (columns) and by address (rows) over all blocks laid end to end.
public struct FaultMap: Sendable {
    /// What a screen shows apart, at the width of a phone as well.
    public static let columns = 120
    /// As `columns`.
    public static let rows = 48

    /// The first instant, on the destination's clock.
    public let from: UInt64
    /// The last one.
    public let to: UInt64
    /// The length of all blocks.
    public let bytes: UInt64
    /// Waits by where and when they began; row by row.
    public private(set) var faults: [UInt64]
    /// Host pages by where and when the urgent channel's were placed.
    public private(set) var urgent: [UInt64]
    /// The same of the background's.
    public private(set) var background: [UInt64]

    private let blocks: [(start: UInt64, block: FaultLog.Block)]

    /// `nil` where there is no memory, or none that can be, or nothing was recorded.
    init?(_ log: FaultLog) {
        guard let destination = log.destination else { return nil }
        var start: UInt64 = 0
        var blocks: [(start: UInt64, block: FaultLog.Block)] = []
        for block in log.blocks {
            let (end, isOver) = start.addingReportingOverflow(block.lengthBytes)
            guard block.hostPageBytes > 0, !isOver else { return nil }
            blocks.append((start, block))
            start = end
        }
        let begins = destination.waits.lazy.map(\.began).filter { $0 != 0 }
        let places = destination.placements.lazy.map(\.at).filter { $0 != 0 }
        let firsts = [begins.min(), places.min()].compactMap(\.self)
        let lasts = [destination.waits.lazy.map(\.endedAt).max(), places.max()].compactMap(\.self)
        guard start > 0, let from = firsts.min(), let to = lasts.max() else { return nil }
        self.blocks = blocks
        bytes = start
        self.from = from
        self.to = max(from, to)
        let none = [UInt64](repeating: 0, count: Self.columns * Self.rows)
        (faults, urgent, background) = (none, none, none)
        for wait in destination.waits where wait.began != 0 {
            Self.spread(in: &faults, cells(wait.block, wait.page, 1, at: wait.began))
        }
        for record in destination.placements where record.at != 0 {
            let cells = cells(record.block, record.page, UInt64(record.count), at: record.at)
            if record.isUrgent != 0 {
                Self.spread(in: &urgent, cells)
            } else {
                Self.spread(in: &background, cells)
            }
        }
    }

    private static func spread(in counts: inout [UInt64], _ cells: [(cell: Int, pages: UInt64)]) {
        for (cell, pages) in cells { counts[cell] += pages }
    }

    /// The cells of pages that came together, each with how many of them lie there.
    private func cells(
        _ block: UInt16, _ page: UInt64, _ count: UInt64, at instant: UInt64
    ) -> [(cell: Int, pages: UInt64)] {
        guard blocks.indices.contains(Int(block)) else { return [] }
        let (start, block) = blocks[Int(block)]
        let pages = block.lengthBytes / block.hostPageBytes
        guard page < pages else { return [] }
        let column = Self.place(of: instant - from, in: to - from, parts: Self.columns)
        var next = page
        let end = min(pages, page.addingCapped(count))
        var cells: [(cell: Int, pages: UInt64)] = []
        while next < end {
            let byte = start + next * block.hostPageBytes
            let row = Self.place(of: byte, in: bytes, parts: Self.rows)
            // The first byte of the next row, and the page that holds it or begins behind it.
            let border = Self.start(of: row + 1, in: bytes, parts: Self.rows)
            let ahead = border - min(border, start)
            let until = ahead.addingCapped(block.hostPageBytes - 1) / block.hostPageBytes
            let last = min(end, max(next + 1, until))
            cells.append((row * Self.columns + column, last - next))
            next = last
        }
        return cells
    }

    /// In which of `parts` equal parts of `whole` a value lies.
    private static func place(of value: UInt64, in whole: UInt64, parts: Int) -> Int {
        guard whole > 0 else { return 0 }
        let product = value.multipliedFullWidth(by: UInt64(parts))
        guard product.high < whole else { return parts - 1 }
        return min(parts - 1, Int(whole.dividingFullWidth(product).quotient))
    }

    /// The first value of a part.
    private static func start(of part: Int, in whole: UInt64, parts: Int) -> UInt64 {
        guard part < parts else { return whole }
        let product = whole.multipliedFullWidth(by: UInt64(part))
        let (quotient, remainder) = UInt64(parts).dividingFullWidth(product)
        return quotient + (remainder == 0 ? 0 : 1)
    }
}
