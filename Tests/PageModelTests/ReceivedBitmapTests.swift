import Glibc
import LinuxKernel
import PageModel
import Synchronization
import Testing

@Suite("ReceivedBitmap and RequestedPages")
struct ReceivedBitmapTests {
    private static func block(_ pages: Int, _ size: PageSize = .target) throws -> BlockGeometry {
        try BlockGeometry(
            name: "pc.ram", lengthBytes: UInt64(pages) * size.bytes, hostPage: size)
    }

    private func page(_ index: Int) -> HostPageIndex { HostPageIndex(rawValue: index) }

    @Test("it counts host pages, placed and taken back", arguments: [PageSize.target, .size2MiB])
    func received(size: PageSize) throws {
        let received = ReceivedBitmap(block: try Self.block(130, size))
        #expect(received.placedCount == 0)
        #expect(received.insert(page(0)..<page(66)) == 66)
        #expect(received.insert(page(60)..<page(70)) == 4)
        #expect(received.contains(page(69)) && !received.contains(page(70)))
        #expect(received.remove(page(64)..<page(100)) == 6)
        #expect(received.placedCount == 64)
        #expect(received.insert(page(64)..<page(130)) == 66)
        #expect(received.placedCount == 130)
    }

    @Test("runs of missing pages are found up to the block's last page")
    func missing() throws {
        let received = ReceivedBitmap(block: try Self.block(130))
        #expect(received.nextMissing(from: page(0)) == page(0)..<page(130))
        _ = received.insert(page(3)..<page(70))
        #expect(received.nextMissing(from: page(0)) == page(0)..<page(3))
        #expect(received.nextMissing(from: page(3)) == page(70)..<page(130))
        #expect(received.nextMissing(from: page(129)) == page(129)..<page(130))
        #expect(received.nextMissing(from: page(130)) == nil)
        _ = received.insert(page(70)..<page(130))
        #expect(received.nextMissing(from: page(3)) == nil)
    }

    @Test("a request is new once until it is removed")
    func requested() throws {
        let requested = RequestedPages(block: try Self.block(200))
        #expect(requested.first(in: page(0)..<page(200)) == nil)
        #expect(requested.insert(page(5)) && requested.insert(page(130)))
        #expect(!requested.insert(page(5)))
        #expect(requested.contains(page(5)) && !requested.contains(page(6)))
        #expect(requested.first(in: page(0)..<page(200)) == page(5))
        #expect(requested.first(in: page(6)..<page(130)) == nil)
        #expect(requested.first(in: page(6)..<page(131)) == page(130))
        #expect(requested.first(in: page(5)..<page(5)) == nil)
        requested.remove(page(5))
        #expect(!requested.contains(page(5)))
        #expect(requested.insert(page(5)))
    }

    /// Were the two to miss each other, the waiter would sleep in a page that nobody sends again.
    @Test("a placer and a requester of one page never both miss the other")
    func dekker() throws {
        let rounds = 200_000
        let block = try Self.block(rounds)
        let received = ReceivedBitmap(block: block)
        let requested = RequestedPages(block: block)
        let barrier = SpinBarrier()
        let placer = try JoinableThread(name: "placer") {
            (0..<rounds).map { index in
                if index % 16 == 0 { barrier.meet() }
                let page = HostPageIndex(rawValue: index)
                received.insert(page..<HostPageIndex(rawValue: index + 1))
                return requested.contains(page)
            }
        }
        let seen = (0..<rounds).map { index in
            if index % 16 == 0 { barrier.meet() }
            _ = requested.insert(page(index))
            return received.contains(page(index))
        }
        let placerSeen = placer.join()
        let missed = (0..<rounds).count { !seen[$0] && !placerSeen[$0] }
        #expect(missed == 0)
    }
}

/// Two threads leave `meet` together, as nearly as a machine lets them.
private final class SpinBarrier: Sendable {
    private let arrivals = Atomic<Int>(0)

    func meet() {
        // Sequentially consistent: it orders nothing but the meeting and is not what is measured.
        let place = arrivals.add(1, ordering: .sequentiallyConsistent).newValue
        let whole = (place + 1) / 2 * 2
        var spins = 0
        while arrivals.load(ordering: .sequentiallyConsistent) < whole {
            spins += 1
            // The other may need this core.
            if spins % 2000 == 0 { sched_yield() }
        }
    }
}
