import TestSupport

/// Runs seeds, and makes a failing one small.
public enum Simulator {
    /// What a seed came to.
    public struct Outcome: Sendable {
        public let seed: UInt64
        public let limits: Limits
        public let violation: Violation?
        public let tally: Tally
        public let trace: [String]
    }

    /// Called by the thread that is to run a seed, before it does: what a trap leaves nobody to say.
    public typealias Announcement = @Sendable (UInt64, Limits) -> Void

    public static func run(
        _ seed: UInt64, limits: Limits = .full, traces: Bool = false,
        announcing: Announcement = { _, _ in }
    ) -> Outcome {
        announcing(seed, limits)
        let world = World(seed: seed, limits: limits, traces: traces)
        world.run()
        defer { world.end() }
        return Outcome(
            seed: seed, limits: limits, violation: world.violation, tally: world.tally,
            trace: world.trace.lines)
    }

    /// The smallest case found in which the same law is broken.
    public static func shrink(
        _ outcome: Outcome, announcing: Announcement = { _, _ in }
    ) -> Outcome {
        var best = outcome
        var isSmaller = true
        while isSmaller {
            isSmaller = false
            for limits in best.limits.smaller {
                let next = run(best.seed, limits: limits, announcing: announcing)
                guard next.violation?.law == outcome.violation?.law else { continue }
                best = next
                isSmaller = true
                break
            }
        }
        return run(best.seed, limits: best.limits, traces: true, announcing: announcing)
    }
}

extension Limits {
    /// One thing less of each kind, the largest cuts first.
    var smaller: [Limits] {
        var all: [Limits] = []
        for pages in [pages / 2, pages - 1] where pages > 0 && pages < self.pages {
            all.append(Limits(blocks: blocks, pages: pages, vcpus: vcpus, faults: faults))
        }
        if blocks > 1 {
            all.append(Limits(blocks: blocks - 1, pages: pages, vcpus: vcpus, faults: faults))
        }
        if faults > 1 {
            all.append(Limits(blocks: blocks, pages: pages, vcpus: vcpus, faults: faults - 1))
        }
        if vcpus > 1 {
            all.append(Limits(blocks: blocks, pages: pages, vcpus: vcpus - 1, faults: faults))
        }
        return all
    }
}
