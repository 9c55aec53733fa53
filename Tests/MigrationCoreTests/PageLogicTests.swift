import MigrationCore
import PageModel
import Testing
import TestSupport

/// Precopy, switch and postcopy of one block without threads, kernel or bytes: the bitmaps and the
/// assembly are the real ones, and the guest writes at the worst of times.
@Suite("pages from precopy to postcopy")
struct PageLogicTests {
    struct Guests: Sendable, CustomStringConvertible {
        let pageBytes: UInt64
        let hostPagesMax: Int
        let seeds: Range<UInt64>

        var description: String { "host pages of \(pageBytes) bytes, seeds \(seeds)" }
    }

    static let guests = [
        Guests(pageBytes: 4096, hostPagesMax: 200, seeds: 0..<1_000),
        Guests(pageBytes: 4096, hostPagesMax: 200, seeds: 1_000..<2_000),
        Guests(pageBytes: 16_384, hostPagesMax: 50, seeds: 0..<1_000),
        Guests(pageBytes: 2 << 20, hostPagesMax: 3, seeds: 0..<300),
        Guests(pageBytes: 2 << 20, hostPagesMax: 3, seeds: 300..<600),
    ]

    @Test(
        "each page that is needed arrives, and each host page owed is placed once",
        arguments: guests)
    func arrives(guests: Guests) throws {
        for seed in guests.seeds {
            if let problem = try Self.problem(guests, seed: seed) {
                Issue.record("seed \(seed), host pages of \(guests.pageBytes) bytes: \(problem)")
                return
            }
        }
    }

    private static func problem(_ guests: Guests, seed: UInt64) throws -> String? {
        var random = SeededRandom(seed: seed &* 1_000_003 &+ guests.pageBytes)
        let size = try #require(PageSize(bytes: guests.pageBytes))
        let hostPageCount = 1 + random.below(guests.hostPagesMax)
        let block = try BlockGeometry(
            name: "pc.ram", lengthBytes: UInt64(hostPageCount) * size.bytes, hostPage: size)
        var source = ModelSource(block: block, seed: random.next())
        var destination = ModelDestination(block: block)

        for _ in 0..<random.below(150) { source.precopyStep(to: &destination) }
        source.stopGuest()
        var owed = Array(repeating: 0, count: hostPageCount)
        var page = 0
        while let run = source.dirty.nextRun(from: page) {
            guard destination.discard(run) else { return "a discard of \(run)" }
            for first in stride(from: run.lowerBound, to: run.upperBound, by: size.targetPages) {
                owed[first / size.targetPages] = 1
            }
            page = run.upperBound
        }
        do throws(AssemblyError) { try sendOwed(source, &destination, &random) } catch {
            return "refused: \(error)"
        }

        if destination.placings != owed { return "placed \(destination.placings), owed \(owed)" }
        let missing = hostPageCount - destination.received.placedCount
        if missing > 0 { return "\(missing) host pages are missing" }
        for page in 0..<block.targetPageCount where source.memory.isNeeded[page] {
            let (found, expected) = (destination.memory[page], source.memory.versions[page])
            if found != expected { return "page \(page): \(found ?? -1), not \(expected)" }
        }
        return nil
    }

    /// Both channels send, a target page at a time and by turns at random, until nothing is owed.
    private static func sendOwed(
        _ source: ModelSource, _ destination: inout ModelDestination, _ random: inout SeededRandom
    ) throws(AssemblyError) {
        let block = source.dirty.block
        var background: [Int] = []
        var urgent: [Int] = []
        var from = random.below(block.targetPageCount)
        var hasMore = true
        while hasMore || !background.isEmpty || !urgent.isEmpty {
            if random.below(3) == 0 {
                // A request: of any page, also one that is here or on its way.
                let asked = HostPageIndex(rawValue: random.below(block.hostPageCount))
                if urgent.isEmpty, source.dirty.claim(asked) {
                    urgent = block.targetPages(of: asked).reversed()
                }
                from = block.targetPages(of: asked).upperBound
            }
            if background.isEmpty, hasMore {
                let countMax = 1 + random.below(32)
                let next =
                    source.dirty.claimNext(from: from, countMax: countMax)
                    ?? source.dirty.claimNext(from: 0, countMax: countMax)
                background = next?.reversed() ?? []
                from = next?.upperBound ?? 0
                hasMore = next != nil
            }
            for _ in 0..<random.below(block.hostPage.targetPages + 1) {
                let isUrgent = random.below(2) == 0
                guard let page = isUrgent ? urgent.popLast() : background.popLast() else {
                    continue
                }
                try destination.take(source.content(of: page), at: page, isUrgent: isUrgent)
            }
        }
    }
}
