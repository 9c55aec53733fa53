import LinuxKernel
import PageModel
import TestSupport
import Testing

/// Blocks that are counted in larger pages than the kernel faults and places.
@Suite(
    "Host pages of many small pages",
    .enabled(if: HostUnderTest.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct LargerHostPagesTests {
    static let backings: [RAMBacking] = [.anonymous, .memfd]
    private static let small = HostMemory.pageSize.bytes
    private static let smallCount = PageSize.size2MiB.bytes / small

    private func geometry(_ page: PageSize) throws -> BlockGeometry {
        try BlockGeometry(name: "pc.ram", lengthBytes: 2 * page.bytes, hostPage: page)
    }

    private func run(
        _ backing: RAMBacking, pages: Int, _ body: (borrowing FaultRig) throws -> Void
    ) throws {
        try FaultRig.run(backing, pages: pages, hostPage: .size2MiB, body)
    }

    /// A small page of a host page.
    private func offset(_ small: UInt64, of page: Int, _ rig: borrowing FaultRig) -> RAMOffset {
        RAMOffset(rawValue: rig.offset(page).rawValue + small * Self.small)
    }

    /// Places one small page of ones.
    private func placeOnes(_ offset: RAMOffset, _ rig: borrowing FaultRig) throws {
        let ones = StagingArea(capacityBytes: Int(Self.small))
        let bytes = [UInt8](repeating: 1, count: Int(Self.small))
        ones.write(bytes.span, 0..<bytes.count, at: 0)
        let placement = try rig.uffd.place(
            ones, lengthBytes: bytes.count, at: offset, of: rig.ram)
        #expect(placement.placedBytes == bytes.count)
    }

    @Test("such a block is made only for who asks for it", arguments: backings)
    func asked(backing: RAMBacking) throws {
        let block = try geometry(.size2MiB)
        #expect(
            throws: RAMError.otherPageSize(
                block: "pc.ram", page: .size2MiB, systemPage: HostMemory.pageSize)
        ) { try GuestRAM(block, backing: backing) }
        let ram = try GuestRAM(block, backing: backing, allowsLargerHostPages: true)
        #expect(ram.placingUnit == HostMemory.pageSize)
        #expect(ram.geometry == block)
        #expect(throws: RAMError.self) {
            try GuestRAM(
                block, backing: backing, usedBytes: 3 << 20, allowsLargerHostPages: true)
        }
        let large = try GuestRAM(
            geometry(.size1GiB), backing: backing, allowsLargerHostPages: true)
        #expect(large.usedBytes == 2 << 30)
    }

    @Test("one placing wakes whoever waits anywhere in the host page", arguments: backings)
    func place(backing: RAMBacking) throws {
        try run(backing, pages: 3) { rig in
            let places: [UInt64] = [0, 1, 7, Self.smallCount / 2, Self.smallCount - 1]
            var waiting: [BlockedThread] = []
            for place in places {
                waiting.append(
                    BlockedThread(
                        try Toucher(rig.ram, at: [offset(place, of: 1, rig).rawValue])))
            }
            let events = try rig.events(places.count)
            let found = events.compactMap { rig.ram.offset(of: $0.address) }
            #expect(found.allSatisfy { rig.ram.geometry.hostPage(containing: $0).rawValue == 1 })
            #expect(Set(found) == Set(places.map { offset($0, of: 1, rig) }))
            let placement = try rig.place(1..<2)
            #expect(placement.placedBytes == rig.pageBytes)
            #expect(placement.alreadyPresentPages == 0)
            for (place, thread) in zip(places, waiting) {
                let expected = place == 0 ? FaultRig.word(1) : 0
                #expect(try rig.finish(thread.take()) == [expected])
            }
            let last = UInt64(rig.pageBytes) - 8
            #expect(try rig.read(1..<2, byteInPage: last) == [FaultRig.word(1)])
            let beside = try rig.touch([0, 2])
            #expect(try rig.events(1).count == 1, "neighbours stay missing")
            _ = try rig.place(0..<1)
            _ = try rig.place(2..<3)
            #expect(try rig.finish(beside) == [FaultRig.word(0), FaultRig.word(2)])
        }
    }

    @Test(
        "a copy that meets small pages which are there goes on behind each", arguments: backings,
        [[0], [511], [1, 2], [3, 100, 101, 300], Array(0..<256)] as [[UInt64]])
    func partial(backing: RAMBacking, present: [UInt64]) throws {
        try run(backing, pages: 1) { rig in
            for place in present { try placeOnes(offset(place, of: 0, rig), rig) }
            let placement = try rig.place(0..<1)
            #expect(placement.alreadyPresentPages == present.count)
            #expect(placement.placedBytes == rig.pageBytes - present.count * Int(Self.small))
            let places = (0..<Self.smallCount).map { $0 * Self.small }
            let words = try rig.finish(Toucher(rig.ram, at: places))
            for (place, word) in words.enumerated() {
                let staged = place == 0 ? FaultRig.word(0) : 0
                let isOld = present.contains(UInt64(place))
                #expect(word == (isOld ? 0x0101_0101_0101_0101 : staged), "small page \(place)")
            }
        }
    }

    @Test("zeros are placed over all of it, and beside what is there", arguments: backings)
    func zeros(backing: RAMBacking) throws {
        try run(backing, pages: 2) { rig in
            try placeOnes(offset(9, of: 1, rig), rig)
            let waiting = try rig.touch([1], byteInPage: 100 * Self.small)
            #expect(try rig.events(1).count == 1)
            let whole = try rig.uffd.placeZeros(
                lengthBytes: 2 * rig.pageBytes, at: rig.offset(0), of: rig.ram)
            #expect(whole.alreadyPresentPages == 1)
            #expect(whole.placedBytes == 2 * rig.pageBytes - Int(Self.small))
            #expect(try rig.finish(waiting) == [0])
            #expect(try rig.read(1..<2, byteInPage: 9 * Self.small) == [0x0101_0101_0101_0101])
            #expect(try rig.read(0..<2) == [0, 0])
        }
    }

    @Test("a woken thread whose small page is missing faults again", arguments: backings)
    func wake(backing: RAMBacking) throws {
        try run(backing, pages: 1) { rig in
            let waiting = try rig.touch([0], byteInPage: 300 * Self.small)
            let first = try rig.events(1)
            try rig.uffd.wake(HostPageIndex(rawValue: 0), of: rig.ram)
            #expect(try rig.events(1).map(\.address) == first.map(\.address))
            _ = try rig.place(0..<1)
            #expect(try rig.finish(waiting) == [0])
        }
    }

    @Test("a host page is dropped with all its small pages, and only they", arguments: backings)
    func drop(backing: RAMBacking) throws {
        try run(backing, pages: 4) { rig in
            _ = try rig.place(0..<4)
            let page = HostPageIndex(rawValue: 1)
            try rig.ram.drop([page..<HostPageIndex(rawValue: 2)])
            for place in [0, Self.smallCount - 1] {
                let waiting = try rig.touch([1], byteInPage: place * Self.small)
                #expect(try rig.events(1).count == 1)
                let unit = try rig.uffd.placeZeros(
                    lengthBytes: Int(Self.small), at: offset(place, of: 1, rig), of: rig.ram)
                #expect(unit.placedBytes == Int(Self.small))
                #expect(try rig.finish(waiting) == [0])
            }
            for page in [0, 2, 3] {
                #expect(try rig.read(page..<page + 1) == [FaultRig.word(page)])
            }
        }
    }

    @Test("whoever waits goes on in zeros when the reports end", arguments: backings)
    func unregister(backing: RAMBacking) throws {
        try run(backing, pages: 1) { rig in
            let waiting = try rig.touch([0], byteInPage: 77 * Self.small)
            #expect(try rig.events(1).count == 1)
            try rig.uffd.unregister(rig.ram)
            #expect(try rig.finish(waiting) == [0])
        }
    }

    @Test(
        "its ranges are collapsed as those of other memory",
        .enabled(if: hostGivesHugePages, "needs Linux 6.7 and transparent huge pages not 'never'"),
        arguments: backings)
    func collapse(backing: RAMBacking) throws {
        let huge = try #require(HostMemory.hugePageSize)
        let block = try BlockGeometry(name: "a", lengthBytes: 2 * huge.bytes, hostPage: huge)
        let ram = try GuestRAM(block, backing: backing, allowsLargerHostPages: true)
        ram.avoidHugePages()
        for place in stride(from: 0, to: huge.bytes, by: Int(Self.small)) {
            ram.storeWord(place + 1, at: place)
        }
        #expect(ram.hugeBytes() == 0)
        ram.allowHugePages()
        #expect(try ram.collapse(rangeAt: RAMOffset(rawValue: 0)) == .rebuilt)
        #expect(ram.hugeBytes() == huge.bytes)
        #expect(ram.loadWord(at: 5 * Self.small) == 5 * Self.small + 1)
    }
}
