import Glibc
import LinuxKernel
import PageModel
import Testing

@Suite("KVMMachine", .enabled(if: HostUnderTest.hasKVM, "needs access to /dev/kvm"))
struct KVMMachineTests {
    @Test("the guest runs its program and leaves when it halts")
    func halt() throws {
        let guest = try FlatGuest(pages: 8)
        try guest.write([1, 3, 3, 7])
        #expect((0..<8).map(guest.writes) == [0, 1, 0, 2, 0, 0, 0, 1])
        let registers = try guest.vcpu.registers()
        #expect(registers[.rcx] == 0)
        #expect(registers[.rax] == FlatGuest.base + 7 * PageSize.target.bytes)
    }

    @Test("what the guest writes to a port comes out, and it goes on behind that")
    func output() throws {
        let guest = try FlatGuest(pages: 1)
        try guest.load(GuestProgram.count, [.rax: 250])
        for step in 250..<260 {
            #expect(try guest.runPastSignals() == .output(port: 0x10, value: UInt32(step % 256)))
        }
    }

    @Test("all registers come back as they were set")
    func registers() throws {
        let guest = try FlatGuest(pages: 1)
        var registers = VCPURegisters()
        for register in VCPURegister.allCases where register != .rflags {
            registers[register] = UInt64(register.rawValue + 1) << 8
        }
        try guest.vcpu.setRegisters(registers)
        #expect(try guest.vcpu.registers() == registers)
    }

    @Test("memory that the guest does not have makes it leave")
    func noMemory() throws {
        let guest = try FlatGuest(pages: 1)
        try guest.load(GuestProgram.sweep, [.rbx: 0xF000_0000, .rdx: 1])
        #expect(try guest.runPastSignals() == .other(reason: 6))  // KVM_EXIT_MMIO
    }

    @Test("a stop before the run ends that run at once, and only that")
    func stopBefore() throws {
        let guest = try FlatGuest(pages: 1)
        try guest.load(GuestProgram.count, [:])
        guest.vcpu.stop()
        guest.vcpu.stop()
        #expect(try guest.vcpu.run() == .interrupted)
        #expect(try guest.runPastSignals() == .output(port: 0x10, value: 0))
    }

    @Test("a guest that never leaves is stopped by another thread, each time")
    func stopFromOutside() throws {
        let guest = try FlatGuest(pages: 64)
        try guest.load(
            GuestProgram.sweep,
            [.rbx: FlatGuest.base, .rdx: 64, .rbp: PageSize.target.bytes])
        try HeldVCPU.with(guest) { vcpu in
            var before: UInt64 = 0
            for round in 0..<500 {
                vcpu.resume()
                // Sometimes before the guest has begun, sometimes long after.
                for _ in 0..<round % 50 * 100 { _ = Monotonic.now() }
                try vcpu.pause()
                let after = guest.writes(to: 63)
                #expect(after >= before)
                before = after
                #expect((0..<64).map(guest.writes).allSatisfy { (after...after + 2).contains($0) })
            }
            #expect(before > 0)
        }
    }

    @Test("what the kernel refuses is told")
    func refusals() throws {
        let guest = try FlatGuest(pages: 2)
        #expect(throws: Errno.exists) { _ = try guest.machine.makeVCPU(id: 0).registers() }
        let twin = KVMSlot(
            number: 7, guestPhysicalAddress: FlatGuest.base, block: FlatGuest.block,
            offset: RAMOffset(rawValue: 0), lengthBytes: PageSize.target.bytes,
            hostAddress: guest.ram.address)
        #expect(throws: Errno.exists) { try guest.machine.map(twin) }
    }
}
