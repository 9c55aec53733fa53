import LinuxKernel
import PageModel
import Testing

@Suite("A write that a tracker must not lose", .serialized)
struct LostWriteTests {
    /// With 21 syncs each, two thousand: some seconds in a debug build.
    static let rounds = 100

    @Test(
        "by write protection none is lost",
        .enabled(if: TrackedMemory.canTrack, "needs Linux 6.7 and access to userfaultfd"),
        arguments: TrackedMemory.present)
    func writeProtect(kind: TrackedMemory) throws {
        try kind.with { ram in
            let found = try LostWriteHunt(WriteProtectTracker([ram]), on: ram).run(
                rounds: Self.rounds)
            #expect(found.stalePages == 0, "after \(found.syncs) syncs")
        }
    }

    @Test("by reports none is lost")
    func reported() throws {
        let ram = try smallMemory()
        let writes = ReportedWrites([ram.geometry])
        let found = try LostWriteHunt(writes, on: ram, wrote: writes.report(page:)).run(
            rounds: Self.rounds)
        #expect(found.stalePages == 0, "after \(found.syncs) syncs")
    }

    @Test("the hunt finds a tracker that drops what a sync found")
    func findsLossyTracker() throws {
        let ram = try smallMemory()
        let writes = ReportedWrites([ram.geometry])
        let lossy = LossyTracker(writes, of: ram.geometry)
        let found = try LostWriteHunt(lossy, on: ram, wrote: writes.report(page:)).run(
            rounds: Self.rounds)
        #expect(found.stalePages > 0)
    }

    @Test(
        "the hunt finds a sender that clears after it has read",
        .enabled(if: TrackedMemory.canTrack, "needs Linux 6.7 and access to userfaultfd"))
    func findsLateClear() throws {
        let ram = try smallMemory()
        let found = try LostWriteHunt(WriteProtectTracker([ram]), on: ram, clearsLate: true).run(
            rounds: Self.rounds)
        #expect(found.stalePages > 0)
    }

    private func smallMemory() throws -> GuestRAM {
        try TrackedMemory.ram(.anonymous, named: "small", bytes: 1000 * PageSize.target.bytes)
    }
}

extension ReportedWrites {
    /// One page of the first block.
    func report(page: Int) { report(BlockIndex(rawValue: 0), page..<page + 1) }
}
