/// Finds records by their page, and among those of a page by time.
struct PageIndex {
    private struct Entry {
        let block: UInt16
        let page: UInt64
        let at: UInt64
        let index: Int

        func isBefore(_ other: Entry) -> Bool {
            if block != other.block { return block < other.block }
            if page != other.page { return page < other.page }
            return at != other.at ? at < other.at : index < other.index
        }

        func isSamePage(as other: Entry) -> Bool { page == other.page && block == other.block }
    }

    private let entries: [Entry]

    /// - Parameter isWanted: whether the record with this index counts.
    init(
        _ records: [(block: UInt16, page: UInt64, at: UInt64)],
        where isWanted: (Int) -> Bool = { _ in true }
    ) {
        var entries: [Entry] = []
        for (index, record) in records.enumerated() where isWanted(index) {
            entries.append(
                Entry(block: record.block, page: record.page, at: record.at, index: index))
        }
        entries.sort { $0.isBefore($1) }
        self.entries = entries
    }

    /// The latest record of a page that does not lie behind `instant`.
    func latest(block: UInt16, page: UInt64, upTo instant: UInt64) -> Int? {
        let end = Entry(block: block, page: page, at: instant, index: .max)
        let place = firstIndex { end.isBefore($0) } - 1
        guard place >= 0, entries[place].isSamePage(as: end) else { return nil }
        return entries[place].index
    }

    /// The earliest record of a page that does not lie before `instant`.
    func earliest(block: UInt16, page: UInt64, from instant: UInt64) -> Int? {
        let start = Entry(block: block, page: page, at: instant, index: .min)
        let place = firstIndex { start.isBefore($0) }
        guard place < entries.count, entries[place].isSamePage(as: start) else { return nil }
        return entries[place].index
    }

    /// The latest record, up to `instant`, of a page or, where it has none, of the last one before it in
    /// its block: that of a range that may hold the page.
    func latestRange(block: UInt16, page: UInt64, upTo instant: UInt64) -> Int? {
        let end = Entry(block: block, page: page, at: instant, index: .max)
        let place = firstIndex { end.isBefore($0) } - 1
        guard place >= 0, entries[place].block == block else { return nil }
        return entries[place].index
    }

    /// The record of a page that has one.
    func only(block: UInt16, page: UInt64) -> Int? {
        let start = Entry(block: block, page: page, at: 0, index: .min)
        let place = firstIndex { start.isBefore($0) }
        guard place < entries.count, entries[place].isSamePage(as: start) else { return nil }
        let next = place + 1
        guard next == entries.count || !entries[next].isSamePage(as: start) else { return nil }
        return entries[place].index
    }

    /// The records that are alone in being of their page.
    var single: [Int] {
        entries.indices.compactMap { place in
            let entry = entries[place]
            if place > 0, entries[place - 1].isSamePage(as: entry) { return nil }
            if place + 1 < entries.count, entries[place + 1].isSamePage(as: entry) { return nil }
            return entry.index
        }
    }

    /// The first entry for which `condition` holds, which holds for all behind it.
    private func firstIndex(where condition: (Entry) -> Bool) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if condition(entries[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
