internal import LinuxKernel
internal import MigrationCore
internal import PageModel

/// Rebuilds the huge pages of a guest whose memory came in small ones, while it runs.
///
/// It rests after each range for as long as that took, and so leaves the guest half a core at least.
/// It is not niced instead: it would be held up while it has the lock of the address space, for which
/// the guest's faults wait (on two busy cores, 256 ranges then took a minute instead of a second).
struct Healing {
    private let blocks: [GuestRAM]
    private let isCancelled: () -> Bool
    private var rebuiltCount = 0
    private var refusals = 0

    /// What was rebuilt, and how long it took.
    struct Outcome: Sendable {
        let ranges: Int
        let nanoseconds: UInt64
    }

    /// Refusals in a row after which no more is tried: a kernel that found no huge page has searched
    /// and compacted memory for it, and does so at each try.
    private static let refusalsMax = 8

    private init(_ blocks: [GuestRAM], unless isCancelled: @escaping () -> Bool) {
        self.blocks = blocks
        self.isCancelled = isCancelled
    }

    /// Rebuilds `ranges` in their order; those that were busy get a second try at the end.
    static func run(
        _ ranges: [HugeRange], of blocks: [GuestRAM], unless isCancelled: @escaping () -> Bool
    ) -> Outcome {
        let start = Monotonic.now()
        var healing = Healing(blocks, unless: isCancelled)
        let busy = healing.rebuild(ranges)
        _ = healing.rebuild(busy)
        return Outcome(ranges: healing.rebuiltCount, nanoseconds: Monotonic.now() - start)
    }

    /// Answers the ranges that were busy.
    private mutating func rebuild(_ ranges: [HugeRange]) -> [HugeRange] {
        var busy: [HugeRange] = []
        for range in ranges {
            guard refusals < Self.refusalsMax, !isCancelled() else { break }
            // Whatever else the kernel says, the memory stays as it is, and right.
            let block = blocks[range.block.rawValue]
            let start = Monotonic.now()
            guard let outcome = try? block.collapse(rangeAt: range.offset) else { continue }
            refusals = outcome == .noMemory ? refusals + 1 : 0
            if outcome == .rebuilt { rebuiltCount += 1 }
            if outcome == .busy { busy.append(range) }
            guard outcome == .rebuilt || outcome == .noMemory else { continue }
            let end = Monotonic.now()
            Monotonic.sleep(untilNanoseconds: end + (end - start))
        }
        return busy
    }
}
