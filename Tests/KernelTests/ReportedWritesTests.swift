import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("ReportedWrites")
struct ReportedWritesTests {
    static let block = BlockIndex(rawValue: 0)

    private func geometry(pages: Int) throws -> BlockGeometry {
        try BlockGeometry(
            name: "b", lengthBytes: UInt64(pages) * PageSize.target.bytes, hostPage: .target)
    }

    @Test("what is reported is dirty once", arguments: [1, 63, 64, 65, 1000])
    func exact(pages: Int) throws {
        let block = try geometry(pages: pages)
        let writes = ReportedWrites([block])
        let dirty = DirtyBitmap(block: block, allDirty: false)
        try writes.check()
        var random = SeededRandom(seed: UInt64(pages))
        for _ in 0..<20 {
            var model: Set<Int> = []
            for _ in 0..<random.below(6) {
                let reported = random.range(in: pages)
                writes.report(Self.block, reported)
                model.formUnion(reported)
                let forgotten = random.range(in: pages)
                if Bool.random(using: &random) {
                    writes.forget(Self.block, forgotten)
                    model.subtract(forgotten)
                }
                writes.clear(Self.block, random.range(in: pages))
            }
            #expect(writes.sync(Self.block, into: dirty) == model.count)
            #expect(writes.sync(Self.block, into: dirty) == 0)
            #expect(dirty.takeAll() == model)
        }
    }

    @Test("a new start knows nothing of the last migration")
    func restart() throws {
        let block = try geometry(pages: 100)
        let writes = ReportedWrites([block])
        let dirty = DirtyBitmap(block: block, allDirty: false)
        writes.report(Self.block, 0..<100)
        writes.start()
        writes.report(Self.block, 7..<8)
        #expect(writes.sync(Self.block, into: dirty) == 1)
        #expect(dirty.takeAll() == [7])
        writes.stop()
        writes.stop()
    }

    @Test("reports of an ignored block are dropped")
    func ignored() throws {
        let block = try geometry(pages: 10)
        let writes = ReportedWrites([block, block], ignoring: [Self.block])
        let dirty = DirtyBitmap(block: block, allDirty: false)
        writes.report(Self.block, 0..<10)
        writes.forget(Self.block, 0..<10)
        #expect(writes.sync(Self.block, into: dirty) == 0)
        try writes.check()
        #expect(throws: TrackerRefusal.self) {
            try ReportedWrites([block], ignoring: [Self.block]).check()
        }
    }
}
