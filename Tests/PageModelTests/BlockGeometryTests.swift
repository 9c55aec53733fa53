import PageModel
import Testing

@Suite("BlockGeometry")
struct BlockGeometryTests {
    @Test(
        "pages tile the block",
        arguments: [PageSize.target, .size2MiB, .size1GiB], [1, 2, 3, 512] as [UInt64])
    func tiling(page: PageSize, count: UInt64) throws {
        let block = try BlockGeometry(
            name: "pc.ram", lengthBytes: count * page.bytes, hostPage: page)
        #expect(block.hostPageCount == Int(count))
        #expect(block.targetPageCount == block.hostPageCount * page.targetPages)
        var targets = 0
        for index in 0..<min(block.hostPageCount, 8) {
            let host = HostPageIndex(rawValue: index)
            let start = block.offset(of: host)
            #expect(start.rawValue == UInt64(index) * page.bytes)
            #expect(block.hostPage(containing: start) == host)
            let last = RAMOffset(rawValue: start.rawValue + page.bytes - 1)
            #expect(block.hostPage(containing: last) == host)
            #expect(block.targetPages(of: host) == targets..<targets + page.targetPages)
            targets += page.targetPages
        }
        let last = block.hostPage(containing: RAMOffset(rawValue: block.lengthBytes - 1))
        #expect(last.rawValue == block.hostPageCount - 1)
        #expect(block.targetPages(of: last).upperBound == block.targetPageCount)
    }

    @Test(
        "a name has 1 to 255 bytes of UTF-8, whatever its characters",
        arguments: [0, 1, 2, 128, 254, 255, 256, 300])
    func nameLength(bytes: Int) {
        let names = [
            String(repeating: "a", count: bytes),
            String(repeating: "é", count: bytes / 2) + String(repeating: "a", count: bytes % 2),
        ]
        for name in names {
            let result = Result { () throws(GeometryError) in
                try BlockGeometry(name: name, lengthBytes: 4096, hostPage: .target)
            }
            if (1...255).contains(bytes) {
                #expect((try? result.get())?.name == name)
            } else {
                #expect(throws: GeometryError.nameLength(bytes)) { try result.get() }
            }
        }
    }

    @Test("an empty block is refused")
    func empty() {
        #expect(throws: GeometryError.emptyBlock(name: "a")) {
            try BlockGeometry(name: "a", lengthBytes: 0, hostPage: .target)
        }
    }

    @Test(
        "a length that is no multiple of the host page is refused",
        arguments: [
            (1, .target), (4095, .target), (4097, .target), (4096, .size2MiB),
            ((2 << 20) + 4096, .size2MiB), (1 << 29, .size1GiB),
        ] as [(UInt64, PageSize)])
    func notWholePages(length: UInt64, page: PageSize) {
        let refusal = GeometryError.notWholePages(
            name: "a", lengthBytes: length, pageBytes: page.bytes)
        #expect(throws: refusal) {
            try BlockGeometry(name: "a", lengthBytes: length, hostPage: page)
        }
    }

    @Test("the longest block is 2^47 bytes")
    func longest() throws {
        let longest = BlockGeometry.lengthBytesMax
        let block = try BlockGeometry(name: "a", lengthBytes: longest, hostPage: .target)
        #expect(block.targetPageCount == 1 << 35)
        for length in [longest + 4096, 1 << 63, .max, .max - 4095] {
            #expect(throws: GeometryError.tooLong(name: "a", lengthBytes: length)) {
                try BlockGeometry(name: "a", lengthBytes: length, hostPage: .target)
            }
        }
    }

    @Test("a range is inside exactly when both its ends are, without overflow")
    func contains() throws {
        let length: UInt64 = 3 * 4096
        let block = try BlockGeometry(name: "a", lengthBytes: length, hostPage: .target)
        let edges: [UInt64] = [
            0, 1, 4096, length - 1, length, length + 1, 1 << 63, .max - 1, .max,
        ]
        for start in edges {
            for count in edges {
                let (end, overflow) = start.addingReportingOverflow(count)
                let inside = !overflow && end <= length
                let answer = block.contains(
                    start: RAMOffset(rawValue: start), lengthBytes: count)
                #expect(answer == inside, "\(count) bytes at \(start)")
            }
        }
    }

    @Test("a run covers whole host pages, and a part of two at most, however long it is")
    func covered() throws {
        let page = try #require(PageSize(bytes: 16_384))
        let block = try BlockGeometry(name: "a", lengthBytes: 5 * page.bytes, hostPage: page)
        for start in 0...20 {
            for end in start...20 {
                let (whole, parts) = block.hostPages(coveredBy: start..<end)
                let touched = Set((start..<end).map { $0 / 4 })
                let all = touched.filter { start <= $0 * 4 && $0 * 4 + 4 <= end }
                #expect(Set(whole.lowerBound.rawValue..<whole.upperBound.rawValue) == all)
                #expect(Set(parts.map(\.rawValue)) == touched.subtracting(all))
                #expect(parts.count <= 2 && Set(parts).count == parts.count)
            }
        }
        let large = try BlockGeometry(name: "b", lengthBytes: 1 << 40, hostPage: .target)
        let (whole, parts) = large.hostPages(coveredBy: 7..<(1 << 28))
        #expect(whole.lowerBound.rawValue == 7 && whole.upperBound.rawValue == 1 << 28)
        #expect(parts.isEmpty)
    }

    @Test("an offset behind the block has no host page")
    func outside() async {
        await #expect(processExitsWith: .failure) {
            let block = try BlockGeometry(name: "a", lengthBytes: 4096, hostPage: .target)
            _ = block.hostPage(containing: RAMOffset(rawValue: 4096))
        }
    }

    @Test("a refusal names the block and the numbers")
    func descriptions() {
        #expect("\(GeometryError.nameLength(0))".contains("1 to 255 bytes, not 0"))
        #expect("\(GeometryError.emptyBlock(name: "vga"))" == "RAM block 'vga' is empty")
        let partial = GeometryError.notWholePages(name: "vga", lengthBytes: 5, pageBytes: 4096)
        #expect("\(partial)" == "RAM block 'vga': 5 bytes is no multiple of its page size 4096")
        #expect("\(GeometryError.tooLong(name: "vga", lengthBytes: 9))".contains("9 bytes"))
    }
}
