public import PageModel

/// A bitmap as plain booleans, one for each page, and ways to fill it that hit edges often.
public enum PagePattern: CaseIterable, Sendable {
    case none
    case all
    case sparse
    case even
    case dense
    /// Long and short runs by turns.
    case runs
    /// Only pages next to where a 64-bit word begins.
    case wordEdges
    /// Only pages next to where a host page begins.
    case hostPageEdges
    /// Whole host pages.
    case hostPages
    /// Whole host pages but for one page somewhere.
    case nearlyHostPages

    public func pages(
        _ count: Int, perHostPage: Int, using random: inout SeededRandom
    ) -> [Bool] {
        switch self {
        case .none: return Array(repeating: false, count: count)
        case .all: return Array(repeating: true, count: count)
        case .sparse: return (0..<count).map { _ in random.below(40) == 0 }
        case .even: return (0..<count).map { _ in random.below(2) == 0 }
        case .dense: return (0..<count).map { _ in random.below(40) != 0 }
        case .runs: return runs(count, longest: 150, using: &random)
        case .wordEdges: return edges(count, apart: 64, using: &random)
        case .hostPageEdges: return edges(count, apart: perHostPage, using: &random)
        case .hostPages: return hostPages(count, perHostPage, using: &random)
        case .nearlyHostPages:
            var pages = hostPages(count, perHostPage, using: &random)
            if count > 0 { pages[random.below(count)].toggle() }
            return pages
        }
    }

    private func runs(_ count: Int, longest: Int, using random: inout SeededRandom) -> [Bool] {
        var pages: [Bool] = []
        while pages.count < count {
            let length = min(count - pages.count, 1 + random.below(longest))
            pages += Array(repeating: Bool.random(using: &random), count: length)
        }
        return pages
    }

    private func edges(_ count: Int, apart: Int, using random: inout SeededRandom) -> [Bool] {
        var pages = Array(repeating: false, count: count)
        for edge in stride(from: 0, through: count, by: apart) {
            for page in max(0, edge - 2)..<min(count, edge + 2) where random.below(2) == 0 {
                pages[page] = true
            }
        }
        return pages
    }

    private func hostPages(
        _ count: Int, _ perHostPage: Int, using random: inout SeededRandom
    ) -> [Bool] {
        var pages: [Bool] = []
        while pages.count < count {
            let length = min(count - pages.count, perHostPage)
            pages += Array(repeating: Bool.random(using: &random), count: length)
        }
        return pages
    }
}

extension PageBitmap {
    public convenience init(_ pages: [Bool]) {
        self.init(pageCount: pages.count, allSet: false)
        for run in pageRuns(of: pages) { insert(run) }
    }
}

/// The runs of set pages, ascending.
public func pageRuns(of pages: [Bool]) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    var first: Int?
    for page in 0..<pages.count {
        if pages[page], first == nil { first = page }
        if !pages[page], let start = first {
            runs.append(start..<page)
            first = nil
        }
    }
    if let start = first { runs.append(start..<pages.count) }
    return runs
}

/// Which pages the destination must drop and is owed, by the rules as they are written: a page never
/// sent; a host page sent in part; a host page dirty in part.
public func owedPages(dirty: [Bool], sent: [Bool], perHostPage: Int) -> [Bool] {
    var owed = dirty
    for first in stride(from: 0, to: dirty.count, by: perHostPage) {
        let hostPage = first..<min(first + perHostPage, dirty.count)
        var sentCount = 0
        var dirtyCount = 0
        for page in hostPage {
            if sent[page] { sentCount += 1 }
            if dirty[page] { dirtyCount += 1 }
        }
        let isSentInPart = sentCount > 0 && sentCount < hostPage.count
        let isDirtyInPart = dirtyCount > 0 && dirtyCount < hostPage.count
        for page in hostPage {
            if isSentInPart { owed[page] = true }
            if isDirtyInPart { owed[page] = true }
            if !sent[page] { owed[page] = true }
        }
    }
    return owed
}
