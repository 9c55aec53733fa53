import LinuxKernel
import PageModel
import Synchronization
import Testing

@Suite("VCPUThread", .enabled(if: HostUnderTest.hasKVM, "needs access to /dev/kvm"))
struct VCPUThreadTests {
    /// What a guest wrote to its port, and whether there was enough of it.
    private final class Outputs: Sendable {
        let seen = Mutex<[UInt32]>([])
        private let news: EventFlag

        init() throws { news = try EventFlag() }

        func take(_ exit: Result<VCPUExit, Errno>) -> Bool {
            guard case .success(.output(port: 0x10, let value)) = exit else { return false }
            seen.withLock { $0.append(value) }
            news.raise()
            return true
        }

        func await(_ count: Int) -> Bool {
            let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
            while seen.withLock({ $0.count }) < count {
                guard Monotonic.now() < deadline,
                    news.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds)
                else { return false }
                news.clear()
            }
            return true
        }

        /// Whether each is one more than the one before, by the byte.
        var isUnbroken: Bool {
            seen.withLock { seen in
                zip(seen, seen.dropFirst()).allSatisfy { ($0 + 1) & 0xff == $1 }
            }
        }
    }

    /// A machine that shows its program at the bottom of its memory.
    private final class FlatMemory: Sendable {
        private static let programAddress: UInt64 = 0x1000
        private let machine: KVMMachine
        private let ram: GuestRAM

        init(_ program: [UInt8] = GuestProgram.count) throws {
            machine = try KVMMachine.open()
            ram = try FlatGuest.memory(pages: 16)
            ram.write(program.span, at: RAMOffset(rawValue: Self.programAddress))
            try machine.map(
                KVMSlot(number: 0, of: ram, block: FlatGuest.block, guestPhysicalAddress: 0))
        }

        /// Its vCPU, at the beginning of the program.
        func makeVCPU() throws -> KVMVCPU {
            let vcpu = try machine.makeVCPU(id: 0)
            var registers = VCPURegisters()
            registers[.rip] = Self.programAddress
            try vcpu.setRegisters(registers)
            return vcpu
        }
    }

    @Test("what it writes to a port is seen once, however often it is stopped")
    func pausedOften() throws {
        let memory = try FlatMemory()
        let outputs = try Outputs()
        let thread = try VCPUThread(memory.makeVCPU(), name: "vcpu") { outputs.take($0) }
        #expect(thread.threadID > 0 && thread.threadID != currentThreadID())
        for round in 1...100 {
            thread.resume()
            thread.resume()
            #expect(outputs.await(round * 5))
            thread.pause()
            let count = outputs.seen.withLock { $0.count }
            thread.pause()
            #expect(outputs.seen.withLock { $0.count } == count)
        }
        thread.end()
        #expect(outputs.isUnbroken)
        withExtendedLifetime(memory) {}
    }

    @Test("one that was asked to pause, goes on, and is paused then, stands still")
    func askedAndResumed() throws {
        let memory = try FlatMemory()
        let outputs = try Outputs()
        let thread = try VCPUThread(memory.makeVCPU(), name: "vcpu") { outputs.take($0) }
        let never = try EventFlag()
        for round in 1...200 {
            thread.resume()
            #expect(outputs.await(round))
            thread.requestPause()
            thread.resume()
            thread.pause()
            let state = try thread.state()
            let count = outputs.seen.withLock { $0.count }
            // A guest that runs on writes to its port within microseconds.
            _ = never.wait(timeoutNanoseconds: 200_000)
            #expect(outputs.seen.withLock { $0.count } == count)
            #expect(try thread.state() == state)
        }
        thread.end()
        #expect(outputs.isUnbroken)
        withExtendedLifetime(memory) {}
    }

    @Test("its state goes on in another machine, and nothing is done twice or left out")
    func moves() throws {
        let outputs = try Outputs()
        var memory = try FlatMemory()
        var thread = try VCPUThread(memory.makeVCPU(), name: "vcpu") { outputs.take($0) }
        for move in 1...50 {
            thread.resume()
            #expect(outputs.await(move * 3))
            thread.pause()
            let state = try VCPUState(decoding: try thread.state().encoded())
            #expect(try state == thread.state())
            thread.end()
            memory = try FlatMemory()
            let next = try memory.makeVCPU()
            try next.setState(state)
            #expect(try next.state() == state)
            thread = try VCPUThread(next, name: "vcpu") { outputs.take($0) }
        }
        thread.end()
        #expect(outputs.isUnbroken)
        withExtendedLifetime(memory) {}
    }

    @Test("an exit that nobody takes lets it stand still, and it can be ended")
    func refusedExit() throws {
        let memory = try FlatMemory([0xF4])  // hlt
        let left = try EventFlag()
        let exits = Mutex<[Result<VCPUExit, Errno>]>([])
        let thread = try VCPUThread(memory.makeVCPU(), name: "vcpu") { exit in
            exits.withLock { $0.append(exit) }
            left.raise()
            return false
        }
        thread.resume()
        #expect(left.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds))
        thread.resume()
        thread.pause()
        // What it asked for is half done: it does not go on behind that either.
        thread.resume()
        thread.pause()
        thread.end()
        #expect(exits.withLock { $0 } == [.success(.halted)])
        withExtendedLifetime(memory) {}
    }

    @Test("bytes of another length are no state, and a state that cannot be is refused")
    func badState() throws {
        let memory = try FlatMemory()
        let vcpu = try memory.makeVCPU()
        let bytes = try vcpu.state().encoded()
        for length in [0, 1, 143, bytes.count - 1] {
            let error = #expect(throws: VCPUStateError.self) {
                try VCPUState(decoding: Array(bytes.prefix(length)))
            }
            #expect(error?.lengthBytes == length && error?.expectedBytes == bytes.count)
        }
        #expect(throws: VCPUStateError.self) { try VCPUState(decoding: bytes + [0]) }
        var changed = bytes
        // All bits of the special registers, those of CR0 and EFER that do not exist among them.
        for place in 144..<144 + 312 { changed[place] = 0xff }
        let state = try VCPUState(decoding: changed)
        #expect(throws: Errno.invalidArgument) { try vcpu.setState(state) }
        withExtendedLifetime(memory) {}
    }
}
