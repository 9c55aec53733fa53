import LinuxKernel
import PageModel
import Testing

@Suite(
    "Userfaultfd",
    .enabled(if: HostUnderTest.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct UserfaultfdTests {
    /// hugetlb needs a pool that only root can raise.
    static let backings = RAMBacking.allCases.filter {
        $0 != .hugetlb || HostUnderTest.canRaiseHugePages
    }

    @Test("it opens with every fault reported, whatever was asked for")
    func open() throws {
        let full = try Userfaultfd.open(.userAndKernel)
        #expect(full.origin == .userAndKernel)
        let either = try Userfaultfd.open(.userOnly)
        #expect(either.origin == .userAndKernel)
    }

    @Test("a fault names page and thread, and placing ends it", arguments: backings)
    func place(backing: RAMBacking) throws {
        try FaultRig.run(backing, pages: 3) { rig in
            let last = UInt64(rig.pageBytes) - 8
            let toucher = try rig.touch([1], byteInPage: last)
            let thread = toucher.threadID
            let events = try rig.events(1)
            #expect(events.map(\.thread) == [thread])
            let start = rig.ram.address.rawValue + rig.offset(1).rawValue
            #expect(events.map(\.address.rawValue) == [start])
            #expect(rig.ram.offset(of: HostAddress(rawValue: start)) == rig.offset(1))
            let blocked = toucher.done.wait(timeoutNanoseconds: 1)
            #expect(!blocked)
            let placement = try rig.place(1..<2)
            #expect(placement.placedBytes == rig.pageBytes)
            #expect(placement.alreadyPresentPages == 0)
            #expect(try rig.finish(toucher) == [FaultRig.word(1)])
            #expect(try rig.read(1..<2) == [FaultRig.word(1)])
        }
    }

    @Test("zero pages wake as well", arguments: backings.filter { $0 != .hugetlb })
    func placeZeros(backing: RAMBacking) throws {
        try FaultRig.run(backing, pages: 70) { rig in
            let toucher = try rig.touch([64])
            #expect(try rig.events(1).count == 1)
            let placement = try rig.uffd.placeZeros(
                lengthBytes: 65 * rig.pageBytes, at: rig.offset(5), of: rig.ram)
            #expect(placement.placedBytes == 65 * rig.pageBytes)
            #expect(try rig.finish(toucher) == [0])
            #expect(try rig.read(5..<70) == Array(repeating: 0, count: 65))
            #expect(try rig.uffd.readEvents { _ in } == 0)
        }
    }

    @Test("the kernel has no zero page for hugetlb", .enabled(if: backings.contains(.hugetlb)))
    func hugeZeros() throws {
        try FaultRig.run(.hugetlb, pages: 1) { rig in
            let error = refusal { () throws(Errno) in
                _ = try rig.uffd.placeZeros(
                    lengthBytes: rig.pageBytes, at: rig.offset(0), of: rig.ram)
            }
            #expect(error == .invalidArgument)
        }
    }

    @Test("64 pages are placed at once", arguments: backings.filter { $0 != .hugetlb })
    func batch(backing: RAMBacking) throws {
        try FaultRig.run(backing, pages: 64) { rig in
            let placement = try rig.place(0..<64)
            #expect(placement.placedBytes == 64 * rig.pageBytes)
            #expect(placement.alreadyPresentPages == 0)
            #expect(try rig.read(0..<64) == (0..<64).map(FaultRig.word))
            let last = UInt64(rig.pageBytes) - 8
            #expect(try rig.read(0..<64, byteInPage: last) == (0..<64).map(FaultRig.word))
        }
    }

    @Test(
        "pages present before stay as they are and are counted", arguments: backings,
        [[0], [3], [1, 2], [7], [0, 2, 4, 6], [0, 1, 2, 3, 4, 5, 6, 7]])
    func partial(backing: RAMBacking, present: [Int]) throws {
        try FaultRig.run(backing, pages: 8) { rig in
            for page in present {
                let old = StagingArea(capacityBytes: rig.pageBytes)
                old.clear(at: 0, lengthBytes: rig.pageBytes)
                let placed = try rig.uffd.place(
                    old, lengthBytes: rig.pageBytes, at: rig.offset(page), of: rig.ram)
                #expect(placed.placedBytes == rig.pageBytes)
            }
            let placement = try rig.place(0..<8)
            #expect(placement.alreadyPresentPages == present.count)
            #expect(placement.placedBytes == (8 - present.count) * rig.pageBytes)
            let expected = (0..<8).map { present.contains($0) ? 0 : FaultRig.word($0) }
            #expect(try rig.read(0..<8) == expected)
        }
    }

    @Test("one read takes the faults of many threads", arguments: [1, 5, 80])
    func manyEvents(count: Int) throws {
        try FaultRig.run(.anonymous, pages: count) { rig in
            var touchers: [BlockedThread] = []
            for page in 0..<count { touchers.append(BlockedThread(try rig.touch([page]))) }
            let events = try rig.events(count)
            #expect(Set(events.map(\.thread)) == Set(touchers.map(\.threadID)))
            let pages = events.compactMap { rig.ram.offset(of: $0.address) }
                .map { rig.ram.geometry.hostPage(containing: $0).rawValue }
            #expect(pages.sorted() == Array(0..<count))
            _ = try rig.place(0..<count)
            for (page, toucher) in touchers.enumerated() {
                #expect(try rig.finish(toucher.take()) == [FaultRig.word(page)])
            }
        }
    }

    @Test("a woken thread whose page is still missing faults again")
    func wake() throws {
        try FaultRig.run(.anonymous, pages: 1) { rig in
            let toucher = try rig.touch([0])
            let first = try rig.events(1)
            try rig.uffd.wake(HostPageIndex(rawValue: 0), of: rig.ram)
            let second = try rig.events(1)
            #expect(first.map(\.address) == second.map(\.address))
            #expect(first.map(\.thread) == second.map(\.thread))
            _ = try rig.place(0..<1)
            #expect(try rig.finish(toucher) == [FaultRig.word(0)])
        }
    }

    @Test("unregister lets waiters go on in zeros", arguments: backings)
    func unregister(backing: RAMBacking) throws {
        try FaultRig.run(backing, pages: 2) { rig in
            let toucher = try rig.touch([0, 1])
            #expect(try rig.events(1).count == 1)
            try rig.uffd.unregister(rig.ram)
            #expect(try rig.finish(toucher) == [0, 0])
            #expect(try rig.uffd.readEvents { _ in } == 0)
        }
    }

    @Test("dropped pages fault again", arguments: backings)
    func drop(backing: RAMBacking) throws {
        try FaultRig.run(backing, pages: 4) { rig in
            _ = try rig.place(0..<4)
            try rig.ram.drop(from: rig.offset(1), lengthBytes: UInt64(2 * rig.pageBytes))
            let toucher = try rig.touch([0, 1, 2, 3])
            for page in 1...2 {
                let events = try rig.events(1)
                let start = rig.ram.address.rawValue + rig.offset(page).rawValue
                #expect(events.map(\.address.rawValue) == [start])
                #expect(try rig.place(page..<page + 1).placedBytes == rig.pageBytes)
            }
            #expect(try rig.finish(toucher) == (0..<4).map(FaultRig.word))
        }
    }

    @Test("a block has one descriptor that reports it")
    func busy() throws {
        try FaultRig.run(.anonymous, pages: 1) { rig in
            let second = try Userfaultfd.open(.userAndKernel)
            let error = try #require(refusal { () throws(Errno) in try second.register(rig.ram) })
            #expect(error == Errno(rawValue: 16), "EBUSY")
        }
    }

    private func refusal(_ body: () throws(Errno) -> Void) -> Errno? {
        do throws(Errno) { try body() } catch { return error }
        return nil
    }
}
