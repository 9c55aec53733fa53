internal import PageModel
internal import Synchronization

/// The addresses of this process that migrations and fault handlers have taken for themselves: the same
/// memory may be described by several RAM blocks where the program mapped it. They look here when they start
/// and when they end, and never between.
enum TakenMemory {
    private static let ranges = Mutex<[Range<HostAddress>]>([])

    /// Takes a range; `false` when somebody has any of it.
    static func take(_ range: Range<HostAddress>) -> Bool {
        ranges.withLock { ranges in
            guard !ranges.contains(where: { $0.overlaps(range) }) else { return false }
            ranges.append(range)
            return true
        }
    }

    /// - Parameter range: as it was taken.
    static func giveBack(_ range: Range<HostAddress>) {
        ranges.withLock { ranges in
            if let place = ranges.firstIndex(of: range) { ranges.remove(at: place) }
        }
    }
}

extension GuestRAM {
    /// Takes the block's memory for one migration or fault handler; `false` when another one has any of
    /// it, by whatever RAM block.
    package func take() -> Bool { TakenMemory.take(addresses) }

    /// Lets others have it.
    /// - Precondition: it was taken.
    package func giveBack() { TakenMemory.giveBack(addresses) }
}
