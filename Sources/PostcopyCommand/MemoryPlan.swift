internal import Postcopy
internal import TestWorkload

/// The guest's memory as asked for, found possible as far as can be said before it is mapped.
struct MemoryPlan: Equatable {
    let lengthBytes: UInt64
    let backing: RAMBacking
    let page: PageSize
    let locks: Bool

    /// What a process needs beside the guest's memory.
    static let overheadBytes: UInt64 = 64 << 20

    /// - Throws: `Refusal` with what is wrong and what would do.
    init(_ options: MemoryOptions) throws {
        page = try Self.page(options)
        backing = options.backing
        locks = options.lockMemory
        lengthBytes = options.memory.bytes
        guard lengthBytes > 0 else {
            throw Refusal.usage("--memory is zero: give at least one page, \(page.bytes) bytes")
        }
        guard lengthBytes <= WorkloadSpecification.memoryBytesMax else {
            throw Refusal.usage(
                "--memory \(lengthBytes) is more than a workload can have: give at most "
                    + Readable.bytes(WorkloadSpecification.memoryBytesMax))
        }
        guard page.divides(lengthBytes) else {
            let below = lengthBytes / page.bytes * page.bytes
            let near = below == 0 ? "\(page.bytes)" : "\(below) or \(below + page.bytes)"
            throw Refusal.usage(
                "--memory \(lengthBytes) is no multiple of the page size \(page.bytes): give "
                    + near)
        }
    }

    private static func page(_ options: MemoryOptions) throws -> PageSize {
        let isHuge = options.backing == .hugetlb
        guard let bytes = options.pageSize?.bytes else {
            return isHuge ? .size2MiB : HostMemory.pageSize
        }
        let allowed: [PageSize] = isHuge ? [.size2MiB, .size1GiB] : [HostMemory.pageSize]
        guard let page = PageSize(bytes: bytes), allowed.contains(page) else {
            let sizes = allowed.map { ByteCount($0.bytes).text }.joined(separator: " or ")
            let remedy = isHuge ? "" : ", and larger ones need --backing hugetlb"
            throw Refusal.usage(
                "--page-size \(ByteCount(bytes).text) cannot be had with --backing \(options.backing.rawValue): "
                    + "it has \(sizes)\(remedy)")
        }
        return page
    }

    /// Refuses what this host has no room for.
    /// - Parameter sides: how many processes on this host hold the memory.
    func checkRoom(sides: UInt64, available: UInt64? = HostMemory.availableBytes) throws {
        if backing == .hugetlb { try checkHugePages(sides: sides, free: Machine.freePages(page)) }
        guard let available else { return }
        let each = (backing == .hugetlb ? 0 : lengthBytes) + Self.overheadBytes
        let needed = each * sides
        guard needed > available else { return }
        let room = available / sides
        let most = room > Self.overheadBytes ? (room - Self.overheadBytes) >> 20 : 0
        let advice =
            backing == .hugetlb || most == 0 ? "free some memory" : "give at most \(most)M"
        throw Refusal.environment(
            "--memory \(Readable.bytes(lengthBytes)) needs \(Readable.bytes(needed)) here"
                + "\(sides > 1 ? " for both sides" : ""), \(Readable.bytes(available)) are "
                + "available: \(advice)")
    }

    /// The second side would be refused by its own need alone, with half of the remedy.
    /// - Parameter free: huge pages; `nil` when this host has none of that size, which is refused
    ///   when they are mapped.
    func checkHugePages(sides: UInt64, free: UInt64?) throws {
        let needed = lengthBytes / page.bytes * sides
        guard let free, needed > free else { return }
        let size = ByteCount(page.bytes).text
        throw Refusal.environment(
            "--memory \(Readable.bytes(lengthBytes)) needs \(needed) huge pages of \(size) here"
                + "\(sides > 1 ? " for both sides" : ""), \(free) are free: add "
                + "\(needed - free) to nr_hugepages in "
                + "/sys/kernel/mm/hugepages/hugepages-\(page.bytes >> 10)kB")
    }

    /// Maps the memory, and locks it where that is asked for.
    func makeRAM() throws -> GuestRAM {
        do {
            let ram = try WorkloadGuest.makeRAM(
                lengthBytes: lengthBytes, page: page, backing: backing)
            if locks { try ram.lock() }
            return ram
        } catch {
            throw Refusal.environment("\(error)")
        }
    }
}
