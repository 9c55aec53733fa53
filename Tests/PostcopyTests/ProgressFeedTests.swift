import Testing

@testable import Postcopy

@Suite(.timeLimit(.minutes(2))) struct ProgressFeedTests {
    private static func read(_ feed: ProgressFeed<Int>) async -> [Int] {
        feed.end()
        var read: [Int] = []
        while let next = await feed.next() { read.append(next) }
        return read
    }

    @Test("statuses wait in order, and of the figures between two of them none")
    func order() async {
        let feed = ProgressFeed<Int>()
        for number in 1...40 { feed.post(number, isStatus: number.isMultiple(of: 10)) }
        feed.post(41, isStatus: false)
        feed.post(42, isStatus: false)
        #expect(await Self.read(feed) == [10, 20, 30, 40, 42])
    }

    @Test("what nobody reads takes bounded room, and the newest is kept")
    func bounded() async {
        let feed = ProgressFeed<Int>()
        for number in 1...1_000 { feed.post(number, isStatus: true) }
        #expect(await Self.read(feed) == Array(873...1_000))
    }

    @Test("a reader that waits gets the next, and the end")
    func waiting() async {
        let feed = ProgressFeed<Int>()
        async let first = feed.next()
        feed.post(1, isStatus: false)
        #expect(await first == 1)
        async let second = feed.next()
        feed.end()
        #expect(await second == nil)
        feed.post(2, isStatus: true)
        #expect(await feed.next() == nil)
    }

    @Test("who fills it hears once that nobody reads any more", arguments: [false, true])
    func left(ends: Bool) async {
        await confirmation { left in
            var feed: ProgressFeed<Int>? = ProgressFeed<Int>()
            feed?.whenLeft { left() }
            if ends {
                feed?.end()
                feed?.end()
            }
            feed = nil
        }
    }
}
