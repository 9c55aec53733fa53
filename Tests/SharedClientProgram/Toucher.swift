import LinuxKernel
import Synchronization
import TestSupport
import TestWorkload

/// Threads that read every page of the regions, each in an order of its own, and compare it with the
/// content model; the first one leaves a mark in each behind itself.
///
/// What a page holds follows from where the guest sees it, so that a page in the wrong place is wrong.
enum Toucher {
    private static let wrong = Atomic(0)
    private static let running = Atomic(0)

    static func start(_ regions: [MappedRegion], seed: UInt64, threadCount: Int) {
        running.store(threadCount, ordering: .relaxed)
        for index in 0..<threadCount {
            run("toucher\(index)") {
                read(regions, seed: seed, index: index)
                let left = running.subtract(1, ordering: .acquiringAndReleasing).newValue
                let total = wrong.load(ordering: .relaxed)
                if left == 0 { say(total == 0 ? "all pages right" : "\(total) pages wrong") }
            }
        }
    }

    /// Waits in memory that is no guest's.
    static func touch(_ beside: GuestRAM) {
        run("beside") {
            _ = beside.loadWord(at: 0)
            say("went on beside the table")
        }
    }

    /// The program ends with its threads wherever they are.
    private static func run(_ name: String, _ body: @escaping @Sendable () -> Void) {
        do { _ = try Bounded(name, body) } catch { say("failed: \(error)") }
    }

    private static func read(_ regions: [MappedRegion], seed: UInt64, index: Int) {
        let model = ContentModel(seed: seed, fill: .mixed)
        var random = SeededRandom(seed: seed &+ UInt64(index))
        var places = regions.indices.flatMap { region in
            (0..<regions[region].pageCount).map { (region, $0) }
        }
        places.shuffle(using: &random)
        for (number, page) in places {
            let region = regions[number]
            let guestPage = Int(region.guestPhysicalAddress >> 12) + page
            let isRight = region.memory.withPage(
                at: region.offset + UInt64(page) << 12, lengthBytes: 4096
            ) { SharedContent.isRight(model, page: guestPage, $0) }
            if !isRight { wrong.add(1, ordering: .relaxed) }
            guard index == 0 else { continue }
            region.memory.storeWord(
                SharedContent.mark(ofPage: guestPage),
                at: region.offset + UInt64(page) << 12 + SharedContent.markOffset)
        }
    }
}
