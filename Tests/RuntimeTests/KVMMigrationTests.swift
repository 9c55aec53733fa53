import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

@testable import kvm

extension RuntimeLaws {
    /// The machine of `examples/kvm`: vCPUs in `KVM_RUN`, a guest that checks its own memory, KVM's
    /// dirty log.
    @Suite(
        "A machine in KVM", .enabled(if: hostHasKVM, "needs access to /dev/kvm"))
    struct KVMMigrationTests {
        static let memoryBytes: UInt64 = 16 << 20
        /// Some 3 us a page: all of it is written anew several times in each round.
        static let busy: UInt64 = 10_000

        /// A machine whose guest runs and has been everywhere once.
        static func started(
            vcpus: Int = 2, idleTurns: UInt64 = busy, chunkBytes: UInt64 = 256 << 10
        ) throws -> FlatMachine {
            let machine = try FlatMachine(memoryBytes: memoryBytes, chunkBytes: chunkBytes)
            try machine.boot(vcpus: vcpus, idleTurns: idleTurns)
            machine.resume()
            try machine.awaitRounds(1)
            return machine
        }

        /// What the guest says once each vCPU has looked at all of its memory, and what a host's model
        /// of that memory says; the guest is stopped then.
        static func judge(_ machine: FlatMachine, _ note: Comment) throws {
            // Before the guest has mended what it finds wrong.
            machine.pause()
            #expect(try machine.wrongPages() == [], note)
            machine.resume()
            try machine.awaitRounds(2)
            machine.pause()
            #expect(machine.said.map(\.complaints).allSatisfy { $0 == 0 }, note)
            #expect(machine.said.allSatisfy { $0.lastLine == "all is as I left it" }, note)
            #expect(try machine.wrongPages() == [], note)
        }

        @Test("it moves twenty times in a row while it writes, once over a link that is cut")
        func twentyTimes() throws {
            var machine = try Self.started()
            defer { machine.end() }
            var waits = [UInt64](repeating: 0, count: 2)
            var owedPages = 0
            for turn in 1...20 {
                let next = try FlatMachine(
                    memoryBytes: Self.memoryBytes, chunkBytes: 256 << 10)
                let breaks = turn == 7 ? 1 : 0
                let (sent, received) = try Crossing.move(machine, to: next, breaks: breaks)
                machine.end()
                machine = next
                let note: Comment = "migration \(turn)"
                try #require(received.status == .completed, "\(note): \(received.problem ?? "")")
                #expect(sent.status == .completed, note)
                #expect(sent.precopy?.roundCount ?? 0 >= 2, note)
                owedPages += sent.precopy?.owedPages ?? 0
                // A host that is busy beyond measure may break a link by itself.
                #expect(sent.breaks.count >= breaks && received.breaks.count >= breaks, note)
                #expect(sent.breaks.allSatisfy { $0.resumedAtNanoseconds != nil }, note)
                let vcpus = try #require(received.blocktime?.vcpus)
                #expect(vcpus.count == 2, note)
                for (vcpu, total) in vcpus.enumerated() { waits[vcpu] += total.nanoseconds }
                print("\(note)\n\(Crossing.text(of: sent))\n\(Crossing.text(of: received))")
                try Self.judge(machine, note)
                machine.resume()
            }
            #expect(owedPages > 0)
            // Waits inside KVM_RUN are known to be those of the vCPU.
            #expect(waits.allSatisfy { $0 > 0 }, "\(waits)")
        }

        @Test("its memory is whole when the cut falls inside the recovery", arguments: 1...3)
        func cutInsideRecovery(vcpus: Int) throws {
            let here = try Self.started(vcpus: vcpus)
            let there = try FlatMachine(memoryBytes: Self.memoryBytes)
            defer {
                here.end()
                there.end()
            }
            let destination = WatchedMachine(there)
            var migration = BrokenMigration(source: here, destination: destination)
            migration.options.precopy = try Crossing.options().precopy
            migration.startsPostcopy = false
            migration.breaks = [
                Break(place: .beforeAcknowledgement), Break(place: .fromSource(200_000)),
            ]
            migration.prepare = { proxy in destination.onResume { proxy.breakLink() } }
            let outcome = try migration.run("\(vcpus) vCPUs")
            outcome.expectCompleted("\(vcpus) vCPUs")
            #expect(outcome.events.count >= 2)
            // Twice broken before pages flowed again.
            #expect(outcome.source.breaks.first?.attempts ?? 0 >= 2)
            #expect(outcome.source.precopy?.owedPages ?? 0 > 0)
            try Self.judge(there, "\(vcpus) vCPUs")
        }

        @Test("a vCPU that waits for a page inside KVM_RUN can be stopped, and goes on later")
        func stoppedInFault() throws {
            let machine = try Self.started()
            defer { machine.end() }
            machine.pause()
            let high = machine.memory[1]
            let before = (0..<high.geometry.targetPageCount).map { page in
                high.withPage(at: UInt64(page) << 12, lengthBytes: 4096) { words in
                    words.indices.map { words[$0] }
                }
            }
            try high.drop(from: RAMOffset(rawValue: 0), lengthBytes: high.geometry.lengthBytes)
            let faults = try Userfaultfd.open(.userAndKernel)
            try faults.register(high)
            machine.resume()
            var poller = Poller(capacity: 1)
            poller.watch(faults)
            #expect(poller.wait(timeoutNanoseconds: 10_000_000_000) > 0)
            // Threads are told by the vCPU that waits, though it does so inside the kernel.
            var waiting: Set<Int32> = []
            _ = try faults.readEvents { waiting.insert($0.thread) }
            #expect(waiting.isSubset(of: machine.vcpuThreads) && !waiting.isEmpty)
            let stops = try Bounded("stops") { machine.pause() }
            try #require(stops.output() != nil, "a vCPU cannot be stopped in a fault")
            // What it could not do then it does now: the page is there again.
            try faults.unregister(high)
            for (page, words) in before.enumerated() {
                for (index, word) in words.enumerated() {
                    high.storeWord(word, at: UInt64(page) << 12 + UInt64(index) * 8)
                }
            }
            #expect(try machine.wrongPages() == [])
            machine.resume()
            try Self.judge(machine, "once stopped in a fault")
        }

        @Test("a guest that is given up while it waits can be ended")
        func givenUp() throws {
            let here = try Self.started()
            let there = try FlatMachine(memoryBytes: Self.memoryBytes)
            defer { here.end() }
            let destination = WatchedMachine(there)
            let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
            let proxy = try BreakingProxy(to: listener.address, plan: [])
            // Nobody gets through any more, and its vCPUs wait for pages.
            destination.onResume { proxy.breakLink(lastingNanoseconds: 60_000_000_000) }
            var options = recoveringOptions()
            options.precopy = try Crossing.options().precopy
            let receiving = try DestinationSession(guest: destination, options: options)
            let sending = try SourceSession(guest: here, options: options)
            let place = Handover(listener)
            let receiver = try Bounded("destination") { receiving.run(on: place.take()) }
            let sender = try Bounded("source") { sending.run(to: proxy.address) }
            #expect(eventually { receiving.progress.status == .postcopyPaused })
            #expect(eventually { receiving.progress.faults > 0 })
            #expect(receiving.abandon())
            #expect(eventually { sending.abandon() })
            let received = try #require(receiver.output(), "the destination hangs")
            #expect(received.isAbandoned && !received.missing.isEmpty)
            #expect(sender.output()?.isAbandoned == true)
            let ends = try Bounded("ends") { there.end() }
            #expect(ends.output() != nil, "a vCPU cannot be ended")
            #expect(proxy.stop())
        }

        @Test("state that no machine can have is refused, and its vCPUs are gone")
        func refusedState() throws {
            let machine = try Self.started()
            defer { machine.end() }
            machine.pause()
            let whole = machine.saveDevices()
            let devices = try DeviceState.devices(in: whole)
            #expect(devices.map(\.name) == ["vcpu", "ports", "vcpu", "ports"])
            var refused: [[UInt8]] = [[], Array(whole.dropLast())]
            refused.append(DeviceState.sections(of: Array(devices.dropFirst())))
            refused.append(DeviceState.sections(of: devices.reversed()))
            refused.append(DeviceState.sections(of: devices + devices))
            for (place, device) in devices.enumerated() {
                for bytes in [[], Array(device.bytes.dropLast(device.bytes.count - 23))] {
                    var changed = devices
                    changed[place] = DeviceState(
                        name: device.name, instance: device.instance, bytes: bytes)
                    refused.append(DeviceState.sections(of: changed))
                }
            }
            for sections in refused {
                let next = try FlatMachine(memoryBytes: 2 << 20)
                #expect(throws: GuestError.self) { try next.loadDevices(sections) }
                #expect(next.vcpuThreads.isEmpty)
            }
            let next = try FlatMachine(memoryBytes: 2 << 20)
            try next.loadDevices(whole)
            #expect(next.saveDevices() == whole)
            #expect(throws: GuestError.self) { try next.loadDevices(whole) }
            #expect(next.vcpuThreads.count == 2)
            next.end()
        }
    }
}
