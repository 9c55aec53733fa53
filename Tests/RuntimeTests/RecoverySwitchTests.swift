import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

extension RuntimeLaws {
    /// A link that breaks while the guest is between the two sides.
    @Suite("A link that breaks around the switch")
    struct RecoverySwitchTests {
        private static let blocks: Pair.Blocks = [
            (name: "low", pages: 300, backing: .anonymous),
            (name: "high", pages: 20, backing: .memfd),
        ]

        @Test(
            "cut before the whole package is read: the guest goes on at the source",
            arguments: [2_000, 150_000, 299_000], [false, true])
        func insidePackage(bytes: Int, preempt: Bool) throws {
            let run = try PatternRun(Self.blocks, deviceBytes: 300_000)
            let outcome = try run.migrate(preempt, [Break(place: .fromSource(bytes))])
            #expect(outcome.source.status == .failed, "\(outcome.source.problem ?? "")")
            #expect(outcome.source.guestRunsHere && run.source.isRunning)
            #expect(outcome.destination.status == .failed)
            #expect(!outcome.destination.guestRunsHere && !run.destination.isRunning)
            #expect(outcome.source.problem?.contains("never ran the guest") == true)
            #expect(run.source.wrongWords() == 0)
        }

        @Test(
            "cut while the devices load, which need pages", arguments: [0, 30_000_000],
            [false, true])
        func whileLoading(downNanoseconds: UInt64, preempt: Bool) throws {
            let hasBegun = Atomic(false)
            let proxy = Mutex<BreakingProxy?>(nil)
            let run = try PatternRun(
                Self.blocks, loadTouches: [[0, 0], [0, 299], [1, 7], [0, 150]],
                whileLoading: {
                    guard !hasBegun.exchange(true, ordering: .relaxed) else { return }
                    proxy.withLock { $0 }?.breakLink(lastingNanoseconds: downNanoseconds)
                })
            let outcome = try run.migrate(preempt, []) { made in proxy.withLock { $0 = made } }
            outcome.expectCompleted("while the devices load")
            #expect(outcome.events.count == 1)
            #expect(outcome.destination.breaks.count == 1)
            #expect(run.destination.wrongWords() == 0)
            #expect(run.destination.mismatches.load(ordering: .relaxed) == 0)
        }

        @Test("cut at every few bytes around the package's end", arguments: [false, true])
        func aroundPackage(preempt: Bool) throws {
            for bytes in stride(from: 300, to: 1_500, by: 23) {
                let run = try PatternRun(Self.blocks, loadTouches: [[0, 200], [1, 3]])
                let outcome = try run.migrate(preempt, [Break(place: .fromSource(bytes))])
                let note: Comment = "cut behind \(bytes) bytes"
                #expect(run.source.isRunning != run.destination.isRunning, note)
                #expect(outcome.source.guestRunsHere == run.source.isRunning, note)
                #expect(outcome.destination.guestRunsHere == run.destination.isRunning, note)
                if run.destination.isRunning {
                    outcome.expectCompleted(note)
                    #expect(run.destination.wrongWords() == 0, note)
                } else {
                    #expect(outcome.source.status == .failed, note)
                    #expect(outcome.destination.status == .failed, note)
                }
            }
        }
    }
}

/// A migration of a guest that reads its memory, with a link that breaks.
private struct PatternRun {
    let source: PatternGuest
    let destination: PatternGuest

    init(
        _ blocks: Pair.Blocks, deviceBytes: Int = 3, loadTouches: [[Int]] = [],
        whileLoading: @escaping @Sendable () -> Void = {}
    ) throws {
        source = try PatternGuest(blocks: blocks, deviceBytes: deviceBytes)
        source.fill()
        destination = try PatternGuest(
            memory: guestMemory(blocks), loadTouches: loadTouches, deviceBytes: deviceBytes,
            whileStopped: whileLoading)
    }

    func migrate(
        _ preempt: Bool, _ breaks: [Break],
        prepare: @escaping @Sendable (BreakingProxy) -> Void = { _ in }
    ) throws -> BrokenMigration.Outcome {
        let readers = try destination.runVCPUs()
        defer {
            destination.stop()
            for reader in readers { reader.join() }
        }
        return try BrokenMigration(
            source: source, destination: destination,
            options: recoveringOptions(preempt: preempt), breaks: breaks, prepare: prepare
        ).run("\(breaks)", withinSeconds: 30)
    }
}
