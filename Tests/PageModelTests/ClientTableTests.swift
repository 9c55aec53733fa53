import PageModel
import TestSupport
import Testing

@Suite("ClientTable")
struct ClientTableTests {
    private static let blocks = [
        ClientTable.Block(name: "a", lengthBytes: 64 << 12, placingUnit: .target),
        ClientTable.Block(name: "huge", lengthBytes: 8 << 21, placingUnit: .size2MiB),
    ]

    private static func region(
        _ address: UInt64, _ length: UInt64, _ block: Int = 0, _ offset: UInt64 = 0
    ) -> ClientRegion {
        ClientRegion(
            address: ClientAddress(rawValue: address), lengthBytes: length,
            block: BlockIndex(rawValue: block), offset: RAMOffset(rawValue: offset))
    }

    private static func refusal(_ regions: [ClientRegion]) -> ClientTableError? {
        do throws(ClientTableError) { _ = try ClientTable(regions, of: blocks) } catch {
            return error
        }
        return nil
    }

    @Test("an address belongs to the region that holds it, up to its last byte")
    func lookup() throws {
        let low = Self.region(0x10000, 0x4000, 0, 0x2000)
        let high = Self.region(0x14000, 0x1000)
        let table = try ClientTable([high, low], of: Self.blocks)
        func region(_ address: UInt64) -> ClientRegion? {
            table.region(at: ClientAddress(rawValue: address))
        }
        #expect(region(0xffff) == nil && region(0) == nil)
        #expect(region(0x10000) == low && region(0x13fff) == low)
        #expect(region(0x14000) == high && region(0x14fff) == high)
        #expect(region(0x15000) == nil && region(.max) == nil)
    }

    /// Non-overlapping regions at random places of both blocks, some of which map the same part.
    private static func randomRegions(_ random: inout SeededRandom) -> [ClientRegion] {
        var address = UInt64(1 + random.below(100)) << 21
        return (0..<1 + random.below(40)).map { _ in
            let block = random.below(2)
            let unit: UInt64 = block == 0 ? 1 << 12 : 1 << 21
            let pages = block == 0 ? 64 : 8
            let first = random.below(pages)
            let count = 1 + random.below(pages - first)
            defer { address += UInt64(count) * unit + UInt64(random.below(3)) << 21 }
            // Aligned for either block.
            address = (address + (1 << 21) - 1) & ~((1 << 21) - 1)
            return region(address, UInt64(count) * unit, block, UInt64(first) * unit)
        }
    }

    @Test(
        "both directions agree with a walk through all regions",
        arguments: 0..<100 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let regions = Self.randomRegions(&random)
        let table = try ClientTable(regions.shuffled(using: &random), of: Self.blocks)
        for _ in 0..<200 {
            let near = regions[random.below(regions.count)]
            let address = near.address.rawValue &+ UInt64(random.below(1 << 22)) &- (1 << 20)
            let holder = regions.first {
                $0.address.rawValue <= address && address < $0.address.rawValue + $0.lengthBytes
            }
            #expect(table.region(at: ClientAddress(rawValue: address)) == holder)
        }
        for (block, pages) in [(0, 64), (1, 8)] {
            let unit: UInt64 = block == 0 ? 1 << 12 : 1 << 21
            for page in 0..<UInt64(pages) {
                var found: Set<Range<ClientAddress>> = []
                let offsets = page * unit..<(page + 1 + UInt64(random.below(2))) * unit
                table.forEachRange(of: offsets, in: BlockIndex(rawValue: block)) {
                    let isNew = found.insert($0).inserted
                    #expect(isNew)
                }
                #expect(found == Self.ranges(of: offsets, block, in: regions))
            }
        }
    }

    private static func ranges(
        of offsets: Range<UInt64>, _ block: Int, in regions: [ClientRegion]
    ) -> Set<Range<ClientAddress>> {
        var ranges: Set<Range<ClientAddress>> = []
        for region in regions where region.block.rawValue == block {
            let whole = region.offset.rawValue..<region.offset.rawValue + region.lengthBytes
            let part = whole.clamped(to: offsets)
            guard !part.isEmpty else { continue }
            let start = region.address.rawValue + part.lowerBound - whole.lowerBound
            let length = part.upperBound - part.lowerBound
            ranges.insert(
                ClientAddress(rawValue: start)..<ClientAddress(rawValue: start + length))
        }
        return ranges
    }

    @Test("a table that cannot be is refused, with what is wrong")
    func refusals() {
        let page: UInt64 = 0x1000
        let huge: UInt64 = 1 << 21
        let address = ClientAddress(rawValue: page)
        #expect(Self.refusal([]) == .empty)
        let many = (1...513).map { Self.region(UInt64($0) * page, page) }
        #expect(Self.refusal(many) == .tooManyRegions(513))
        #expect(Self.refusal(Array(many.dropLast())) == nil)
        #expect(Self.refusal([Self.region(page, page, 2)]) == .noSuchBlock(BlockIndex(rawValue: 2)))
        #expect(
            Self.refusal([Self.region(page, page, -1)]) == .noSuchBlock(BlockIndex(rawValue: -1)))
        #expect(Self.refusal([Self.region(page, 0)]) == .emptyRegion(address))
        for odd in [
            Self.region(page + 8, page), Self.region(page, page + 1), Self.region(page, page, 0, 1),
        ] {
            #expect(Self.refusal([odd]) == .unaligned(odd.address, block: "a", .target))
        }
        for odd in [
            Self.region(huge + page, huge, 1), Self.region(huge, page, 1),
            Self.region(huge, huge, 1, page),
        ] {
            #expect(Self.refusal([odd]) == .unaligned(odd.address, block: "huge", .size2MiB))
        }
        for length in [65 * page, 1 << 62] {
            #expect(
                Self.refusal([Self.region(page, length)])
                    == .beyondBlock(address, block: "a", lengthBytes: 64 * page))
        }
        #expect(
            Self.refusal([Self.region(page, page, 0, 64 * page)])
                == .beyondBlock(address, block: "a", lengthBytes: 64 * page))
        for start in [1 << 63, 0 &- page, (1 << 63) - page] as [UInt64] {
            let region = Self.region(start, 2 * page)
            #expect(Self.refusal([region]) == .beyondAddressSpace(region.address))
        }
        let (one, other) = (Self.region(page, 2 * page), Self.region(2 * page, page))
        #expect(Self.refusal([other, one]) == .overlap(one.address, other.address))
        #expect(Self.refusal([one, one]) == .overlap(one.address, one.address))
    }
}
