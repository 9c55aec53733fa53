import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import TestSupport
import Testing

extension RuntimeLaws {
    @Suite("A destination with locked memory")
    struct MemoryLockTests {
        static let blocks = [
            (name: "low", pages: 8_191, backing: RAMBacking.anonymous),
            (name: "high", pages: 16, backing: .memfd),
        ]

        @Test("memory is locked again once every page is there")
        func locksAgain() throws {
            let pair = try MigratedPair(blocks: Self.blocks)
            for ram in pair.destination.memory { try ram.lock() }
            let outcome = try pair.migrate(to: "tcp:127.0.0.1:0", preempt: true)
            #expect(outcome.destination.status == .completed)
            #expect(outcome.destination.memory.lockProblem == nil)
            #expect(
                outcome.destination.progress.requests > 0, "locked pages would not have faulted")
            #expect(pair.destination.wrongWords() == 0)
            for ram in pair.destination.memory {
                #expect(mappingFlags(at: ram.address.rawValue).contains("lo"))
            }
        }

        @Test(
            "a lock that cannot be had again is told, and the migration completes",
            .enabled(if: geteuid() == 0, "needs root, to become a user without privilege"))
        func cannotLockAgain() async {
            await #expect(processExitsWith: .success) {
                let pair = try MigratedPair(blocks: MemoryLockTests.blocks)
                for ram in pair.destination.memory { try ram.lock() }
                pair.destination.onResume {
                    var none = rlimit(rlim_cur: 0, rlim_max: 0)
                    _ = unsafe setrlimit(Int32(__RLIMIT_MEMLOCK.rawValue), &none)
                    // 65534 is nobody; with the identity goes CAP_IPC_LOCK.
                    _ = setuid(65_534)
                }
                let outcome = try pair.migrate(to: "tcp:127.0.0.1:0", preempt: true)
                #expect(outcome.destination.status == .completed)
                #expect(pair.destination.wrongWords() == 0)
                let problem = try #require(outcome.destination.memory.lockProblem)
                #expect(problem.contains("'low': locking") && problem.contains("RLIMIT_MEMLOCK"))
            }
        }
    }
}
