import LinuxKernel
import PageModel
import Testing
import TestSupport

@Suite("DirtyBitmap")
struct DirtyBitmapTests {
    private static func bitmap(_ hostPages: Int, _ page: PageSize) throws -> DirtyBitmap {
        DirtyBitmap(
            block: try BlockGeometry(
                name: "pc.ram", lengthBytes: UInt64(hostPages) * page.bytes, hostPage: page),
            allDirty: true)
    }

    @Test("a host page is claimed once and whole", arguments: [PageSize.target, .size2MiB])
    func claim(page: PageSize) throws {
        let bitmap = try Self.bitmap(3, page)
        let middle = HostPageIndex(rawValue: 1)
        #expect(bitmap.claim(middle))
        #expect(!bitmap.claim(middle))
        #expect(bitmap.dirtyCount == 2 * page.targetPages)
        #expect(bitmap.nextRun(from: 0) == 0..<page.targetPages)
        #expect(bitmap.nextRun(from: page.targetPages)?.lowerBound == 2 * page.targetPages)
        #expect(bitmap.insert(bitmap.block.targetPages(of: middle)) == page.targetPages)
        #expect(bitmap.claim(middle))
    }

    @Test("claimNext stays in its word and within countMax", arguments: [1, 5, 64, 1000])
    func runs(countMax: Int) throws {
        let bitmap = try Self.bitmap(1000, .target)
        for clean in [3, 64, 200, 201, 999] {
            #expect(bitmap.claim(HostPageIndex(rawValue: clean)))
        }
        var claimed: [Int] = []
        while let run = bitmap.claimNext(from: 0, countMax: countMax) {
            #expect(run.count <= countMax)
            #expect(run.lowerBound / 64 == (run.upperBound - 1) / 64)
            claimed += run
        }
        #expect(claimed == (0..<1000).filter { ![3, 64, 200, 201, 999].contains($0) })
    }

    @Test("with huge host pages claimNext takes one, from its first target page")
    func hugeRuns() throws {
        let bitmap = try Self.bitmap(4, .size2MiB)
        #expect(bitmap.claimNext(from: 700, countMax: 1) == 512..<1024)
        #expect(bitmap.claimNext(from: 0, countMax: 1) == 0..<512)
        #expect(bitmap.claimNext(from: 0, countMax: 9999) == 1024..<1536)
        #expect(bitmap.claimNext(from: 1536, countMax: 1) == 1536..<2048)
        #expect(bitmap.claimNext(from: 0, countMax: 1) == nil)
        #expect(bitmap.dirtyCount == 0)
    }

    @Test("nothing is left behind the end")
    func behindEnd() throws {
        #expect(try Self.bitmap(2, .target).claimNext(from: 2, countMax: 1) == nil)
        #expect(try Self.bitmap(2, .size2MiB).claimNext(from: 1 << 40, countMax: 1) == nil)
    }

    /// Half of the threads claim at random as the urgent thread does, half in order as the send
    /// thread does; every thread goes on in order until nothing is left.
    @Test(
        "threads that claim at once share every host page exactly once",
        arguments: [(PageSize.target, 20_000), (.size2MiB, 3000)], 0..<4 as Range<UInt64>)
    func exclusive(page: (size: PageSize, count: Int), seed: UInt64) throws {
        let bitmap = try Self.bitmap(page.count, page.size)
        let start = try EventFlag()
        var claims: [Int] = []
        let threads = try (0..<4).map { index in
            let work = Claimer(
                bitmap: bitmap, start: start, isRandom: index % 4 == 0,
                random: SeededRandom(seed: seed * 4 + UInt64(index)))
            return Joined(try JoinableThread(name: "claim-\(index)") { work.run() })
        }
        start.raise()
        for thread in threads { claims += thread.join() }
        #expect(claims.count == page.count)
        #expect(Set(claims).count == page.count)
        #expect(bitmap.dirtyCount == 0)
    }
}

/// One thread's part of the claims.
private struct Claimer: Sendable {
    let bitmap: DirtyBitmap
    let start: EventFlag
    let isRandom: Bool
    let random: SeededRandom

    /// The host pages that this thread won.
    func run() -> [Int] {
        var random = random
        var won: [Int] = []
        let block = bitmap.block
        start.wait()
        if isRandom {
            for _ in 0..<block.hostPageCount {
                let page = Int.random(in: 0..<block.hostPageCount, using: &random)
                if bitmap.claim(HostPageIndex(rawValue: page)) { won.append(page) }
            }
        }
        // All from the start and in small runs, so that threads meet on the same words.
        var from = 0
        while true {
            let countMax = Int.random(in: 1...4, using: &random)
            if let run = bitmap.claimNext(from: from, countMax: countMax) {
                let size = block.hostPage.targetPages
                won += stride(from: run.lowerBound, to: run.upperBound, by: size).map { $0 / size }
                from = run.upperBound
            } else if from > 0 {
                from = 0
            } else {
                return won
            }
        }
    }
}

/// Lets a noncopyable thread stand in an array.
private final class Joined<Output: Sendable> {
    private var thread: JoinableThread<Output>?

    init(_ thread: consuming JoinableThread<Output>) { self.thread = consume thread }

    func join() -> Output {
        guard let thread = thread.take() else { fatalError("joined twice") }
        return thread.join()
    }
}
