import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import Synchronization
import TestSupport
import Testing

@testable import PostcopyRuntime

extension RuntimeLaws {
    /// A block of huge host pages that lies in ordinary memory, at one side or at both.
    @Suite("A migration of host pages that consist of many small ones")
    struct LargerHostPagesTests {
        static let blocks: Pair.Blocks = [
            (name: "huge", pages: 12, backing: .hugetlb),
            (name: "low", pages: 300, backing: .anonymous),
        ]

        struct Way: CustomTestStringConvertible, Sendable {
            let from: RAMBacking
            let to: RAMBacking
            var preempt = true
            var testDescription: String { "\(from) to \(to), preempt \(preempt)" }
        }

        static let ways: [Way] = [
            Way(from: .anonymous, to: .memfd), Way(from: .memfd, to: .anonymous, preempt: false),
            Way(from: .hugetlb, to: .anonymous), Way(from: .hugetlb, to: .memfd, preempt: false),
            Way(from: .memfd, to: .hugetlb),
        ]

        private func pair(
            _ way: Way, seed: UInt64, filled: Set<[Int]>? = nil
        ) throws -> TwoGuests {
            let from = try PatternGuest(memory: guestMemory(Self.blocks, hugeIn: way.from))
            let to = try PatternGuest(
                memory: guestMemory(Self.blocks, hugeIn: way.to), vcpuCount: 3, seed: seed)
            if let filled {
                from.fill(only: filled)
                to.expect(only: filled)
            } else {
                from.fill()
            }
            var options = testOptions(preempt: way.preempt)
            options.heals = true
            return TwoGuests(from: from, to: to, sends: options, receives: options)
        }

        @Test("every page arrives while threads wait all over its small pages", arguments: ways)
        func postcopy(way: Way) throws {
            let pool = HugePagePool(reserving: 12)
            defer { pool.release() }
            for seed in 1...3 as ClosedRange<UInt64> {
                let outcome = try pair(way, seed: seed).migrate()
                outcome.expectCompleted("\(way), seed \(seed)")
                #expect(outcome.destination.progress.requests > 0)
                let sent = outcome.source.progress
                #expect(sent.normalPages + sent.zeroPages == UInt64(12 * 512 + 300))
            }
        }

        @Test(
            "a guest that never stops writing arrives whole",
            arguments: [RAMBacking.anonymous, .memfd], [true, false])
        func precopy(backing: RAMBacking, preempt: Bool) throws {
            let pair = try WritingPair(blocks: Self.blocks, hotPages: 3_000, hugeIn: backing)
            let options = PrecopyTests.options(preempt: preempt) {
                $0.switchover = PrecopyTests.settings(rounds: 2)
            }
            let outcome = try #require(try pair.migrate(options))
            let problems = [outcome.source.problem, outcome.destination.problem].compactMap(\.self)
            #expect(problems == [])
            #expect(outcome.destination.status == .completed)
            #expect(pair.source.counts.mismatches.load(ordering: .relaxed) == 0)
            #expect(pair.destination.wrongPages() == 0)
            #expect(outcome.source.discards.targetPages > 0)
        }

        @Test("what is zero takes no memory, placed or filled", arguments: [true, false])
        func sparse(precopies: Bool) throws {
            // In three host pages: one page, two neighbours, the last one.
            let filled: Set<[Int]> = [[0, 5], [0, 1_030], [0, 1_031], [0, 511 + 6 * 512]]
            var pair = try pair(
                Way(from: .anonymous, to: .anonymous), seed: 4, filled: filled)
            pair.receives.heals = false
            let (to, ram) = (pair.to, pair.to.memory[0])
            if precopies {
                pair.sends = PrecopyTests.options {
                    $0.switchover = PrecopyTests.settings(downtime: 10_000_000_000)
                }
                // The rest fits: the guest moves by itself once all was sent.
                let outcome = try pair.migrate(whileActive: {
                    let deadline = Monotonic.now() + 10_000_000_000
                    while !to.isRunning, Monotonic.now() < deadline { sched_yield() }
                })
                outcome.expectCompleted()
                #expect(outcome.source.precopy?.restWasSent == true)
            } else {
                try pair.migrate().expectCompleted()
            }
            // A host page that is placed is copied whole when any of it is not zero.
            let bytes: UInt64 = precopies ? 4 * 4096 : 3 << 21
            #expect(mappingBytes("Anonymous", at: ram.address.rawValue) == bytes)
        }

        @Test("a host page larger than what is healed at once names its first range")
        func firstFaults() throws {
            let size = try #require(HostMemory.hugePageSize)
            let block = try BlockGeometry(
                name: "large", lengthBytes: 3 << 30, hostPage: .size1GiB)
            let ram = try GuestRAM(
                block, backing: .anonymous, allowsLargerHostPages: true)
            let faults = try #require(FirstFaults(of: [ram]))
            for page in [1, 2, 1] {
                faults.note(
                    HostPage(
                        block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: page)))
            }
            let first = faults.ranges().prefix(3).map(\.offset.rawValue)
            #expect(first == [1 << 30, 2 << 30, 0])
            #expect(faults.ranges().count == Int(3 << 30 / size.bytes))
        }
    }
}
