import PageModel
import Synchronization
import TestSupport
import Testing

@Suite("PageDemand")
struct PageDemandTests {
    private static func demand() throws -> PageDemand {
        let blocks = [
            try BlockGeometry(name: "a", lengthBytes: 130 << 12, hostPage: .target),
            try BlockGeometry(name: "b", lengthBytes: 3 << 12, hostPage: .target),
        ]
        return PageDemand(blocks: blocks, missing: 133)
    }

    private static func page(_ block: Int, _ page: Int) -> HostPage {
        HostPage(block: BlockIndex(rawValue: block), page: HostPageIndex(rawValue: page))
    }

    private static func pages(_ range: Range<Int>) -> Range<HostPageIndex> {
        HostPageIndex(rawValue: range.lowerBound)..<HostPageIndex(rawValue: range.upperBound)
    }

    @Test("a page is asked for once, waited for until it comes, and present from then on")
    func want() throws {
        let demand = try Self.demand()
        let page = Self.page(0, 70)
        #expect(demand.want(page) == .request)
        #expect(demand.want(page) == .wait)
        #expect(demand.isAwaited(Self.pages(60..<80), of: page.block))
        _ = demand.settle(Self.pages(70..<71), of: page.block)
        #expect(demand.want(page) == .present)
        demand.close(page)
        #expect(!demand.isAwaited(Self.pages(60..<80), of: page.block))
        // Present, and not waited for: whoever asked nevertheless is let go.
        #expect(demand.want(page) == .present)
    }

    @Test("the last page is told once, alone or with others, and never by a page that was here")
    func last() throws {
        let demand = try Self.demand()
        let (a, b) = (BlockIndex(rawValue: 0), BlockIndex(rawValue: 1))
        #expect(demand.settle(Self.pages(0..<130), of: a) == (130, false))
        #expect(demand.settle(Self.pages(0..<1), of: b) == (1, false))
        #expect(demand.settle(Self.pages(0..<3), of: b) == (2, true))
        #expect(demand.settle(Self.pages(0..<3), of: b) == (0, false))
        #expect(demand.missing.load(ordering: .relaxed) == 0)
    }

    @Test("a page is let in until it is received; the question changes nothing")
    func admits() throws {
        let demand = try Self.demand()
        let page = Self.page(1, 2)
        #expect(demand.admits(page) && demand.admits(page))
        #expect(!demand.received[1].contains(page.page))
        _ = demand.settle(Self.pages(2..<3), of: page.block)
        #expect(!demand.admits(page))
    }

    @Test("what has come and was not closed is found, in order, from any page on")
    func arrived() throws {
        let demand = try Self.demand()
        let asked = [Self.page(0, 3), Self.page(0, 129), Self.page(1, 0), Self.page(1, 2)]
        for page in asked { _ = demand.want(page) }
        #expect(demand.nextArrived(from: Self.page(0, 0)) == nil)
        _ = demand.settle(Self.pages(100..<130), of: asked[1].block)
        _ = demand.settle(Self.pages(1..<3), of: asked[3].block)
        #expect(demand.nextArrived(from: Self.page(0, 0)) == asked[1])
        #expect(demand.nextArrived(from: Self.page(1, 0)) == asked[3])
        demand.close(asked[1])
        #expect(demand.nextArrived(from: Self.page(0, 0)) == asked[3])
        demand.close(asked[3])
        #expect(demand.nextArrived(from: Self.page(0, 0)) == nil)
    }

    @Test("what is outstanding is what was asked for and has not come, in order, from any page on")
    func outstanding() throws {
        for seed in 0..<50 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let demand = try Self.demand()
            var due: [HostPage] = []
            for (block, count) in [130, 3].enumerated() {
                for index in 0..<count {
                    let page = Self.page(block, index)
                    if random.below(4) == 0 {
                        _ = demand.settle(Self.pages(index..<index + 1), of: page.block)
                    }
                    guard random.below(3) == 0 else { continue }
                    if demand.want(page) == .request { due.append(page) }
                }
            }
            var found: [HostPage] = []
            var place = Self.page(0, 0)
            while let page = demand.nextOutstanding(from: place) {
                found.append(page)
                place = Self.page(page.block.rawValue, page.page.rawValue + 1)
            }
            #expect(found == due)
        }
    }
}
