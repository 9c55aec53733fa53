import MigrationCore
import PageModel
import Testing
import TestSupport

@Suite("PageRequestQueue")
struct PageRequestQueueTests {
    static func page(_ page: Int, block: Int = 0) -> HostPage {
        HostPage(block: BlockIndex(rawValue: block), page: HostPageIndex(rawValue: page))
    }

    /// The queue as anybody would write it.
    struct Model {
        let capacity: Int
        var pages: [HostPage] = []

        mutating func push(_ page: HostPage) -> PageRequestQueue.Outcome {
            if pages.contains(page) { return .duplicate }
            if pages.count == capacity { return .full }
            pages.append(page)
            return .queued
        }

        mutating func pop() -> HostPage? { pages.isEmpty ? nil : pages.removeFirst() }
    }

    @Test("does what a plain array does", arguments: 1...17, 0..<8 as Range<UInt64>)
    func againstModel(capacity: Int, seed: UInt64) {
        var generator = SeededRandom(seed: seed)
        var queue = PageRequestQueue(capacity: capacity)
        var model = Model(capacity: capacity)
        var differences = 0
        for _ in 0..<2_000 {
            let page = Self.page(
                Int.random(in: 0..<capacity * 2, using: &generator),
                block: Int.random(in: 0..<2, using: &generator))
            if Int.random(in: 0..<5, using: &generator) < 3 {
                if queue.push(page) != model.push(page) { differences += 1 }
            } else if queue.pop() != model.pop() {
                differences += 1
            }
            if queue.count != model.pages.count { differences += 1 }
            if queue.contains(page) != model.pages.contains(page) { differences += 1 }
        }
        #expect(differences == 0)
    }

    /// Every sequence of 7 operations over 3 pages, for the smallest capacities.
    @Test("does what a plain array does, for every short history", arguments: 1...3)
    func everyHistory(capacity: Int) {
        let length = 7
        var differences = 0
        for history in 0..<1 << (2 * length) {
            var queue = PageRequestQueue(capacity: capacity)
            var model = Model(capacity: capacity)
            for place in 0..<length {
                let operation = history >> (2 * place) & 3
                if operation == 3 {
                    if queue.pop() != model.pop() { differences += 1 }
                } else {
                    let page = Self.page(operation)
                    if queue.push(page) != model.push(page) { differences += 1 }
                }
            }
            while let page = model.pop() {
                if queue.pop() != page { differences += 1 }
            }
            if !queue.isEmpty { differences += 1 }
        }
        #expect(differences == 0)
    }

    @Test("holds its default capacity, refuses one more, and gives all back in order")
    func full() {
        var queue = PageRequestQueue()
        var wrong = 0
        for round in 0..<3 {
            // Far apart, so that the table's low bits alone would collide.
            for page in 0..<queue.capacity where queue.push(Self.page(page << 20)) != .queued {
                wrong += 1
            }
            if queue.push(Self.page(1, block: round)) != .full { wrong += 1 }
            if queue.push(Self.page(0)) != .duplicate { wrong += 1 }
            for page in 0..<queue.capacity where queue.pop() != Self.page(page << 20) { wrong += 1 }
            if queue.pop() != nil { wrong += 1 }
        }
        let capacity = queue.capacity
        #expect(wrong == 0)
        #expect(capacity == 4096)
    }

    @Test("the same page number of two blocks is two pages")
    func blocks() {
        var queue = PageRequestQueue(capacity: 4)
        let outcomes = [
            queue.push(Self.page(7)), queue.push(Self.page(7, block: 1)), queue.push(Self.page(7)),
        ]
        #expect(outcomes == [.queued, .queued, .duplicate])
    }
}
