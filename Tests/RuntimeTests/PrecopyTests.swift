import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import Testing

extension RuntimeLaws {
    /// Memory that is sent while the guest writes it.
    @Suite("Precopy") struct PrecopyTests {
        static let backings: [RAMBacking] = [.anonymous, .memfd]

        static func options(
            preempt: Bool = true, _ change: (inout PrecopyOptions) -> Void
        ) -> MigrationOptions {
            var options = testOptions(preempt: preempt)
            var precopy = PrecopyOptions()
            precopy.switchover = settings()
            change(&precopy)
            options.precopy = precopy
            return options
        }

        static func settings(
            rounds: UInt64? = nil, downtime: UInt64? = nil
        ) -> SwitchoverSettings {
            guard
                let settings = try? SwitchoverSettings(
                    downtimeLimitNanoseconds: downtime, switchAfterRounds: rounds,
                    isAutomatic: false)
            else { preconditionFailure("settings of a test") }
            return settings
        }

        private func expectWhole(_ pair: WritingPair, _ outcome: WritingPair.Outcome) {
            #expect(outcome.source.status == .completed, "\(outcome.source.problem ?? "")")
            #expect(
                outcome.destination.status == .completed, "\(outcome.destination.problem ?? "")")
            #expect(pair.source.counts.mismatches.load(ordering: .relaxed) == 0)
            #expect(pair.destination.wrongPages() == 0)
        }

        @Test("a guest that never stops writing arrives whole", arguments: backings, [true, false])
        func rounds(_ backing: RAMBacking, preempt: Bool) throws {
            for seed in 1...3 as ClosedRange<UInt64> {
                let pair = try WritingPair(
                    blocks: [("low", 2_000, backing), ("high", 3_000, backing)], seed: seed)
                let options = Self.options(preempt: preempt) {
                    $0.switchover = Self.settings(rounds: 3)
                }
                let outcome = try #require(try pair.migrate(options))
                expectWhole(pair, outcome)
                let precopy = try #require(outcome.source.precopy)
                #expect(precopy.decision?.rule == .afterRounds)
                #expect(precopy.roundCount >= 3)
                #expect(precopy.rounds.first?.sentPages == 5_000)
                #expect(outcome.source.discards.targetPages > 0)
                #expect(outcome.source.progress.remainingPages == 0)
            }
        }

        @Test("huge pages are tracked, discarded and placed whole")
        func hugePages() throws {
            let pool = HugePagePool(reserving: 48)
            defer { pool.release() }
            let pair = try WritingPair(
                blocks: [("huge", 16, .hugetlb), ("low", 500, .anonymous)], hotPages: 2_000)
            let options = Self.options { $0.switchover = Self.settings(rounds: 2) }
            let outcome = try #require(try pair.migrate(options))
            expectWhole(pair, outcome)
            #expect(outcome.source.discards.targetPages > 0)
        }

        @Test("a rest that fits is sent at once, and one page is owed, for a QEMU to discard")
        func completes() throws {
            let pair = try WritingPair(blocks: [("low", 4_000, .anonymous)], hotPages: 4)
            let options = Self.options { $0.switchover = Self.settings(downtime: 1_000_000_000) }
            let outcome = try #require(try pair.migrate(options))
            expectWhole(pair, outcome)
            let precopy = try #require(outcome.source.precopy)
            #expect(precopy.decision?.rule == .fitsDowntime)
            #expect(precopy.restWasSent)
            #expect(outcome.source.discards.targetPages == 1)
            #expect(outcome.destination.progress.requests == 0)
        }

        @Test("a rest that grew since the decision is owed, not waited for")
        func grownRest() throws {
            let pair = try WritingPair(blocks: [("low", 20_000, .anonymous)], hotPages: 4)
            let source = pair.source
            source.onPause.withLock { hook in
                hook = { for page in 0..<20_000 { source.write(0, page) } }
            }
            let options = Self.options { $0.switchover = Self.settings(downtime: 2_000_000) }
            let outcome = try #require(try pair.migrate(options))
            expectWhole(pair, outcome)
            #expect(outcome.source.precopy?.decision?.rule == .fitsDowntime)
            #expect(outcome.source.precopy?.restWasSent == false)
            #expect(outcome.source.discards.targetPages > 10_000)
        }

        @Test("the user's word ends a precopy at any time", arguments: [true, false])
        func byHand(preempt: Bool) throws {
            let pair = try WritingPair(blocks: [("low", 10_000, .anonymous)])
            let outcome = try #require(
                try pair.migrate(Self.options(preempt: preempt) { _ in }) { source in
                    Self.awaitRounds(2, of: source)
                    source.startPostcopy()
                })
            expectWhole(pair, outcome)
            #expect(outcome.source.precopy?.decision?.rule == .byHand)
        }

        @Test("a precopy that is cancelled leaves the guest, which can be migrated again")
        func cancelled() throws {
            let pair = try WritingPair(blocks: [("low", 5_000, .anonymous)])
            let first = try #require(
                try pair.migrate(Self.options { _ in }) { source in
                    Self.awaitRounds(2, of: source)
                    source.cancel()
                })
            #expect(first.source.status == .cancelled)
            #expect(first.source.guestRunsHere)
            #expect(pair.source.wrongPages() == 0)
            let again = try WritingPair(source: pair.source, like: pair)
            let second = try #require(
                try again.migrate(Self.options { $0.switchover = Self.settings(rounds: 2) }))
            expectWhole(again, second)
        }

        @Test("pages that the guest gives up are not sent, and those it takes again are")
        func hints() throws {
            let tap = TrackerTap()
            let pair = try WritingPair(
                blocks: [("low", 6_000, .anonymous)], hotPages: 100,
                tracker: { memory in tap.watching(WriteProtectTracker(memory)) })
            let source = pair.source
            for page in 500..<5_000 { source.write(0, page) }
            let outcome = try #require(
                try pair.migrate(Self.options { $0.warmUpNanoseconds = 50_000_000 }) { session in
                    // Before anything is tracked a hint must not count.
                    hint(500..<1_000, to: session, thenWrite: 500..<1_000, of: source)
                    // Tracked and not sent yet.
                    tap.onFirstClear { [self] in
                        hint(1_000..<3_000, to: session, thenWrite: 1_500..<2_000, of: source)
                    }
                    Self.awaitRounds(2, of: session)
                    hint(3_000..<5_000, to: session, thenWrite: 3_500..<4_000, of: source)
                    Self.awaitRounds(4, of: session)
                    session.startPostcopy()
                })
            #expect(outcome.source.status == .completed, "\(outcome.source.problem ?? "")")
            #expect(outcome.destination.status == .completed)
            // As zeros, with what was never written; those of the first write may be on their way.
            let zeroPages = outcome.source.progress.zeroPages
            #expect(zeroPages >= 1_900, "\(zeroPages)")
            let destination = pair.destination
            let givenUp = [1_000..<1_500, 2_000..<3_000, 3_000..<3_500, 4_000..<5_000]
            let wrong = (0..<6_000).filter { page in
                !givenUp.contains { $0.contains(page) } && destination.isWrong(0, page)
            }
            #expect(wrong == [])
            // Given up before they were ever sent: zeros.
            for page in [1_000, 1_499, 2_000, 2_999] {
                #expect(destination.memory[0].loadWord(at: UInt64(page) << 12) == 0)
            }
        }

        private func hint(
            _ pages: Range<Int>, to session: SourceSession, thenWrite written: Range<Int>,
            of guest: WritingGuest
        ) {
            #expect(throws: Never.self) { try session.hint(free: pages, ofBlock: 0) }
            for page in written { guest.write(0, page) }
        }

        @Test(
            "memory is given back as it is sent, once the guest runs elsewhere",
            arguments: [RAMBacking.anonymous, .memfd, .hugetlb], [true, false])
        func release(_ backing: RAMBacking, preempt: Bool) throws {
            let pool = HugePagePool(reserving: backing == .hugetlb ? 64 : 0)
            defer { pool.release() }
            let pages = backing == .hugetlb ? 32 : 16_384
            let pair = try WritingPair(blocks: [("low", pages, backing)])
            var options = testOptions(preempt: preempt)
            options.releasesRAM = true
            for page in 0..<16_384 { pair.source.write(0, page) }
            let outcome = try #require(
                try pair.migrate(options) { session in session.startPostcopy() })
            expectWhole(pair, outcome)
            let source = pair.source
            let kept = (0..<16_384).count { source.memory[0].loadWord(at: UInt64($0) << 12) != 0 }
            #expect(kept < 16_384 / 2)
            #expect(outcome.source.progress.releasedBytes >= UInt64(16_384 - kept) << 12)
        }

        @Test("a link that breaks in a precopy leaves the guest, which can be migrated again")
        func cut() throws {
            let pair = try WritingPair(blocks: [("low", 5_000, .anonymous)])
            for bytes in [1_000, 300_000, 3_000_000] {
                let outcome = try #require(
                    try pair.migrate(Self.options { _ in }, cutAfter: bytes))
                #expect(outcome.source.status == .failed, "\(bytes)")
                #expect(outcome.source.guestRunsHere)
                #expect(outcome.destination.status == .failed)
                #expect(pair.source.wrongPages() == 0)
            }
            let again = try WritingPair(source: pair.source, like: pair)
            let second = try #require(
                try again.migrate(Self.options { $0.switchover = Self.settings(rounds: 1) }))
            expectWhole(again, second)
        }

        @Test("memory that cannot be tracked is refused before anything begins")
        func refused() throws {
            let guest = try WritingGuest(blocks: [("low", 16, .anonymous)])
            let other = try Userfaultfd.open(.userOnly)
            try other.register(guest.memory[0])
            #expect(throws: TrackerRefusal.self) {
                _ = try SourceSession(guest: guest, options: Self.options { _ in })
            }
            try other.unregister(guest.memory[0])
            #expect(throws: Never.self) {
                _ = try SourceSession(guest: guest, options: Self.options { _ in })
            }
        }

        static func awaitRounds(_ count: Int, of source: SourceSession) {
            let limit = Monotonic.now() + 20_000_000_000
            let never = try? EventFlag()
            while (source.progress.precopy?.roundCount ?? 0) < count, Monotonic.now() < limit {
                _ = never?.wait(timeoutNanoseconds: 1_000_000)
            }
        }
    }
}
