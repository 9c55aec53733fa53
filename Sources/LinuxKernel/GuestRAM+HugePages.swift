internal import CShims
public import PageModel

/// What became of a range that was to be mapped by one huge page.
public enum CollapseOutcome: Hashable, Sendable {
    /// It is now, and was not before.
    case rebuilt
    /// One huge page mapped it before.
    case wasHuge
    /// It holds zero pages that take no memory, or nothing: left as it is.
    case onlyZeros
    /// The kernel uses some of its pages just now, or the control group has reached its limit.
    case busy
    /// No huge page is free, and none could be made.
    case noMemory
    /// The kernel has no such thing (before 6.1), or not for this memory.
    case unsuitable
}

/// Transparent huge pages: the kernel maps a whole range of `HostMemory.hugePageSize` by one entry.
/// hugetlb has its own pages, and nothing here changes them.
extension GuestRAM {
    /// Lets the kernel give huge pages, as QEMU does with guest memory (`ram_block_add`,
    /// `system/physmem.c`). A kernel without them refuses, and nothing changes.
    public func allowHugePages() { advise(PC_ADVICE_HUGE_PAGES) }

    /// Keeps the kernel from giving more of them, which would place neighbours that were never
    /// received. Those that are there stay until part of them is dropped.
    public func avoidHugePages() { advise(PC_ADVICE_NO_HUGE_PAGES) }

    private func advise(_ advice: pc_advice) {
        guard backing != .hugetlb else { return }
        _ = pc_advise(address.rawValue, geometry.lengthBytes, advice)
    }

    /// Ranges looked at in one block. The guest waits while a destination counts: 0.5 us for each.
    private static let probesMax = 1_024

    /// The bytes that huge pages map; `nil` where the kernel does not say (before Linux 6.7). An
    /// estimate for blocks of more than 1,024 huge pages (2 GiB in pages of 2 MiB): every n-th range
    /// is looked at. All of hugetlb.
    public func hugeBytes() -> UInt64? {
        guard backing != .hugetlb else { return geometry.lengthBytes }
        guard let size = HostMemory.hugePageSize else { return 0 }
        let ranges = Int(geometry.lengthBytes >> UInt64(size.shift))
        let step = (ranges + Self.probesMax - 1) / Self.probesMax
        guard ranges > 0 else { return 0 }
        var (probed, huge) = (0, 0)
        do throws(Errno) {
            let map = try PageMap()
            for range in stride(from: 0, to: ranges, by: step) {
                let offset = RAMOffset(rawValue: UInt64(range) << UInt64(size.shift))
                if try isHuge(map, at: offset) { huge += 1 }
                probed += 1
            }
        } catch { return nil }
        return UInt64(huge * ranges / probed) << UInt64(size.shift)
    }

    /// `hugeBytes` of all blocks together.
    public static func hugeBytes(of blocks: [GuestRAM]) -> UInt64? {
        var sum: UInt64 = 0
        for block in blocks {
            guard let bytes = block.hugeBytes() else { return nil }
            sum += bytes
        }
        return sum
    }

    /// Copies the range at `offset` into one huge page, at once (`MADV_COLLAPSE`). Whoever touches it
    /// waits meanwhile.
    /// - Precondition: the whole range lies in the block, at a multiple of `HostMemory.hugePageSize`.
    /// - Throws: what is none of the outcomes.
    public func collapse(rangeAt offset: RAMOffset) throws(Errno) -> CollapseOutcome {
        guard backing != .hugetlb else { return .wasHuge }
        guard let size = HostMemory.hugePageSize else { return .unsuitable }
        precondition(size.divides(offset.rawValue))
        precondition(geometry.contains(start: offset, lengthBytes: size.bytes))
        if let outcome = try? outcomeWithoutCollapse(at: offset, size) { return outcome }
        let start = address.rawValue + offset.rawValue
        do throws(Errno) {
            try Errno.check(pc_advise(start, size.bytes, PC_ADVICE_COLLAPSE))
            return .rebuilt
        } catch {
            switch error {
            case .again, .busy: return .busy
            case .noMemory: return .noMemory
            case .invalidArgument: return .unsuitable
            default: throw error
            }
        }
    }

    /// A range that needs no huge page, or should have none: of zeros alone the kernel would make one.
    private func outcomeWithoutCollapse(
        at offset: RAMOffset, _ size: PageSize
    ) throws(Errno) -> CollapseOutcome? {
        let map = try PageMap()
        if try isHuge(map, at: offset) { return .wasHuge }
        let range = addresses(from: offset, lengthBytes: size.bytes)
        let present = try map.bytes(in: range, having: [PC_PAGE_PRESENT])
        let zero = try map.bytes(in: range, having: [PC_PAGE_PRESENT, PC_PAGE_ZERO])
        return present == zero ? .onlyZeros : nil
    }

    /// The first page says it of the whole range.
    private func isHuge(_ map: borrowing PageMap, at offset: RAMOffset) throws(Errno) -> Bool {
        let page = addresses(from: offset, lengthBytes: HostMemory.pageSize.bytes)
        return try map.bytes(in: page, having: [PC_PAGE_HUGE]) > 0
    }

    private func addresses(
        from offset: RAMOffset, lengthBytes: UInt64
    ) -> Range<HostAddress> {
        let start = address.rawValue + offset.rawValue
        return HostAddress(rawValue: start)..<HostAddress(rawValue: start + lengthBytes)
    }
}
