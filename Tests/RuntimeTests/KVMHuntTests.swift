import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import TestSupport
import Testing

@testable import kvm

extension RuntimeLaws {
    /// The hunt for writes that get lost between the last sync and the switch: a guest writes up to the
    /// very moment in which it is stopped, and at the destination it is held until every page is there.
    /// Then both memories must be the same.
    @Suite(
        "No write of a machine in KVM is lost on its way",
        .enabled(if: hostHasKVM, "needs access to /dev/kvm"))
    struct KVMHuntTests {
        /// Some 20 us a page: a round of 5 ms leaves most pages clean, so that a write which nobody
        /// noticed is not sent for another reason.
        private static let unhurried: UInt64 = 50_000
        /// Some 80 us: a guest to which much was lost says so word by word.
        private static let slow: UInt64 = 200_000

        private static func options(rounds: UInt64) throws -> MigrationOptions {
            var options = testOptions()
            var precopy = PrecopyOptions()
            // No rest fits; but the limit says how short a round may be.
            precopy.switchover = try SwitchoverSettings(
                downtimeLimitNanoseconds: 1, switchAfterRounds: rounds, isAutomatic: false)
            options.precopy = precopy
            return options
        }

        /// Moves a machine and answers the one it has become, still stopped, with the pages in which
        /// it differs from what it was.
        private static func move(
            _ machine: FlatMachine, rounds: UInt64, chunkBytes: UInt64 = 256 << 10,
            onPause: @escaping @Sendable () -> Void = {},
            tracking: @escaping WatchedMachine.Tracking = { log, _ in log }
        ) throws -> (machine: FlatMachine, differing: [Int]) {
            let next = try FlatMachine(
                memoryBytes: KVMMigrationTests.memoryBytes, chunkBytes: chunkBytes)
            let source = WatchedMachine(machine, tracking: tracking)
            source.onPause(onPause)
            let destination = WatchedMachine(next, mayRun: false)
            let options = try options(rounds: rounds)
            let sending = try SourceSession(guest: source, options: options)
            let receiving = try DestinationSession(guest: destination, options: options)
            let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
            let address = listener.address
            let place = Handover(listener)
            let receiver = try Bounded("destination") { receiving.run(on: place.take()) }
            let sender = try Bounded("source") { sending.run(to: address) }
            let sent = try #require(sender.output(), "the source hangs")
            let received = try #require(receiver.output(), "the destination hangs")
            try #require(sent.status == .completed && received.status == .completed)
            // None of them ran, and each is accounted for.
            #expect(
                received.blocktime?.vcpuNanoseconds == machine.vcpuThreads.map { _ in 0 })
            #expect(source.isStopped && sent.precopy?.decision != nil)
            return (next, differingPages(machine.memory, next.memory))
        }

        /// Pages of both blocks, those of the second behind those of the first.
        private static func differingPages(_ here: [GuestRAM], _ there: [GuestRAM]) -> [Int] {
            var differing: [Int] = []
            var first = 0
            for (one, other) in zip(here, there) {
                let count = one.geometry.targetPageCount
                for page in 0..<count where !isSame(page, one, other) {
                    differing.append(first + page)
                }
                first += count
            }
            return differing
        }

        private static func isSame(_ page: Int, _ one: GuestRAM, _ other: GuestRAM) -> Bool {
            let starts = [one, other].map { UInt($0.address.rawValue) + UInt(page) << 12 }
            // SAFETY: both blocks have the page and are held by the caller.
            return unsafe memcmp(
                UnsafeRawPointer(bitPattern: starts[0])!,
                UnsafeRawPointer(bitPattern: starts[1])!, 4096) == 0
        }

        @Test(
            "the whole way from the first round to the last page",
            arguments: [(1, 256 << 10), (2, 256 << 10), (4, 256 << 10), (2, 1 << 30)])
        func hunt(vcpus: Int, chunkBytes: UInt64) throws {
            var machine = try KVMMigrationTests.started(
                vcpus: vcpus, idleTurns: Self.unhurried, chunkBytes: chunkBytes)
            defer { machine.end() }
            var random = SeededRandom(seed: UInt64(vcpus))
            let start = Monotonic.now()
            // A busy host shows less in the same time.
            for turn in 1...8 where turn <= 3 || Monotonic.now() - start < 3_000_000_000 {
                let rounds = UInt64(1 + random.below(4))
                let (next, differing) = try Self.move(
                    machine, rounds: rounds, chunkBytes: chunkBytes)
                machine.end()
                machine = next
                #expect(differing == [], "migration \(turn) after \(rounds) rounds")
                #expect(try machine.wrongPages() == [], "migration \(turn)")
                machine.resume()
                try machine.awaitRounds(1)
            }
            try KVMMigrationTests.judge(machine, "at last")
        }

        /// Waits until a running guest has written so many pages of a block.
        private static func await(_ pages: Int, writtenIn ram: GuestRAM) -> Bool {
            func firstWords() -> [UInt64] {
                (0..<ram.geometry.targetPageCount).map { ram.loadWord(at: UInt64($0) << 12) }
            }
            let before = firstWords()
            return eventually { zip(before, firstWords()).count { $0 != $1 } >= pages }
        }

        @Test("a last sync that finds nothing is noticed, by the comparison and by the guest")
        func plantedFault() throws {
            let machine = try KVMMigrationTests.started(idleTurns: Self.slow)
            defer { machine.end() }
            let (next, differing) = try Self.move(
                machine, rounds: 2,
                onPause: { [memory = machine.memory] in
                    #expect(Self.await(20, writtenIn: memory[1]))
                },
                tracking: { log, guest in LastSyncLost(log, of: guest) })
            defer { next.end() }
            #expect(differing.count >= 10)
            // A page that a vCPU was just writing may be old as a whole: its first word was next.
            let wrong = try next.wrongPages().count
            #expect((differing.count - 2...differing.count).contains(wrong))
            next.resume()
            try next.awaitRounds(2)
            #expect(next.said.reduce(0) { $0 + $1.complaints } > 0)
            #expect(next.said.contains { $0.lastLine == "something has changed" })
        }
    }
}
