internal import Postcopy

/// A row of an inspection to which more may still belong.
enum OpenRow {
    case none
    case pages(PageRow)
    case discards(offset: UInt64, count: Int, BlockTally)
    /// A list of RAM blocks, with the section that it begins.
    case list(offset: UInt64, section: UInt32?, blocks: [InspectedBlock]?)
    case heartbeats(offset: UInt64, count: Int)
    case trailing(offset: UInt64)

    /// The pages of a section, of several, or of a channel that has none.
    struct PageRow {
        let offset: UInt64
        var sections: Int?
        var isLast = false
        var tally: BlockTally
        /// Whether the page that came last was one of zeros.
        var isZero = false

        /// Whether a page is the next of one stretch of pages of one kind.
        func continues(_ page: InspectedPage) -> Bool {
            if tally.isEmpty { return true }
            return isZero == page.isZero && tally.continues(page.block, page.offset)
        }
    }

    /// Takes the row out, so that it can be changed without a copy.
    mutating func takePages() -> PageRow? {
        guard case .pages(let pages) = self else { return nil }
        self = .none
        return pages
    }

    /// Adds a heartbeat to those that are open, or begins a row with it. Answers what was open before
    /// and does not go on.
    mutating func addHeartbeat(
        at place: UInt64, detail: InspectionDetail, names: [String]
    ) -> InspectedItem? {
        if detail == .summary, case .heartbeats(let offset, let count) = self {
            self = .heartbeats(offset: offset, count: count + 1)
            return nil
        }
        let finished = item(endingAt: place, names: names)
        self = .heartbeats(offset: place, count: 1)
        return finished
    }

    /// Adds a page to the row that is open, or begins a row with it. Answers what was open before and
    /// does not go on.
    /// - Parameter names: those of the guest's blocks.
    mutating func addPage(
        _ page: InspectedPage, at place: UInt64, detail: InspectionDetail, names: [String]
    ) -> InspectedItem? {
        var finished: InspectedItem?
        var pages = takePages()
        if detail == .runs, let full = pages, !full.continues(page) {
            finished = OpenRow.pages(full).item(endingAt: place, names: names)
            pages = nil
        } else if pages == nil {
            finished = item(endingAt: place, names: names)
        }
        var row = pages ?? PageRow(offset: place, tally: BlockTally(blockCount: names.count))
        pages = nil
        row.tally.add(page)
        row.isZero = page.isZero
        self = .pages(row)
        return finished
    }

    /// The finished row, which ends at byte `end`.
    func item(endingAt end: UInt64, names: [String]) -> InspectedItem? {
        switch self {
        case .none: nil
        case .pages(let row):
            InspectedItem(
                offset: row.offset, bytes: end - row.offset, kind: .pages, count: row.sections,
                isLast: row.isLast ? true : nil,
                blocks: row.tally.figures(names, InspectedBlock.pages))
        case .discards(let offset, let count, let tally):
            InspectedItem(
                offset: offset, bytes: end - offset, kind: .discards, count: count,
                blocks: tally.figures(names, InspectedBlock.ranges))
        case .list(let offset, let section, let blocks):
            InspectedItem(
                offset: offset, bytes: end - offset, kind: .blockList, section: section,
                blocks: blocks)
        case .heartbeats(let offset, let count):
            InspectedItem(
                offset: offset, bytes: end - offset, kind: .heartbeats, count: count)
        case .trailing(let offset):
            InspectedItem(offset: offset, bytes: end - offset, kind: .trailing)
        }
    }
}

/// A target page as a channel brings it.
struct InspectedPage {
    let block: BlockIndex
    let offset: RAMOffset
    let isZero: Bool
}
