import LinuxKernel
import MigrationCore
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

extension RuntimeLaws {
    /// Both ends of ours, and links that really break.
    @Suite("A migration whose link breaks")
    struct RecoveredMigrationTests {
        private static func options(preempt: Bool) -> MigrationOptions {
            var options = testOptions(preempt: preempt)
            options.recovery.mode = .automatic
            options.linkLimitNanoseconds = 2_000_000_000
            return options
        }

        /// What breaks the links: the network, or somebody at the source.
        enum Breaker: CaseIterable { case network, hand }

        @Test(
            "it comes back by itself or by hand, again and again, with every page right",
            arguments: 0..<6 as Range<UInt64>, Breaker.allCases)
        func comesBack(seed: UInt64, _ breaker: Breaker) throws {
            var generator = SeededRandom(seed: seed)
            let preempt = seed % 2 == 0
            let blocks: Pair.Blocks = [
                (name: "low", pages: 3_000, backing: .anonymous),
                (name: "high", pages: 9, backing: .memfd),
            ]
            let from = try PatternGuest(blocks: blocks)
            let to = try PatternGuest(blocks: blocks, vcpuCount: 3)
            from.fill()
            from.resume()
            var options = Self.options(preempt: preempt)
            let destination = try DestinationUnderTest(to, options: options, vcpus: true)
            let proxy = try CuttingProxy(to: destination.address)
            // Some three tenths of a second, in which it is broken.
            options.maxPostcopyBandwidth = 40 << 20
            let session = try SourceSession(guest: from, options: options)
            session.startPostcopy()
            let run = try Bounded("source") { session.run(to: proxy.address) }
            for _ in 0..<3 {
                let owed = session.progress.remainingPages
                let at = owed - Int.random(in: 0...800, using: &generator)
                #expect(
                    eventually {
                        session.progress.remainingPages <= max(1, at) || Self.isOver(session)
                    })
                switch breaker {
                case .network: proxy.cut()
                case .hand:
                    guard session.pause() else { break }
                    #expect(eventually { session.recover() || Self.isOver(session) })
                }
            }
            let sent = run.output()
            if sent == nil {
                Issue.record("hangs: \(session.progress)")
                session.abandon()
            }
            let received = destination.report(withinSeconds: 10)
            #expect(proxy.stop())
            let report = try #require(sent)
            #expect(report.status == .completed || report.status == .failed)
            if report.status == .completed {
                #expect(try #require(received).status == .completed)
                #expect(to.mismatches.load(ordering: .relaxed) == 0 && to.wrongWords() == 0)
            }
            #expect(!(from.isRunning && to.isRunning))
            for linkBreak in report.breaks where linkBreak.resumedAtNanoseconds != nil {
                let back = try #require(linkBreak.linkBackAtNanoseconds)
                #expect(back >= linkBreak.pausedAtNanoseconds)
            }
        }

        private static func isOver(_ session: SourceSession) -> Bool {
            let status = session.progress.status
            return status == .completed || status == .failed || status == .cancelled
        }
    }
}
