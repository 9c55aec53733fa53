import Glibc
import LinuxKernel
import PageModel
import Synchronization
import Testing

/// Machine code for a flat guest: 32-bit, no paging, no stack, registers set by the test.
enum GuestProgram {
    /// Adds one to the word at each of the `ecx` addresses that `esi` points to, and halts.
    static let addOneToEach: [UInt8] = [
        0xE3, 0x05,  //        jecxz done
        0xAD,  //        next: lodsd                 ; eax = [esi], esi += 4
        0xFF, 0x00,  //        inc   dword [eax]
        0xE2, 0xFB,  //        loop  next            ; until --ecx == 0
        0xF4,  //        done: hlt
    ]

    /// Adds one to a word of each of `edx` pages in turn, from `ebx` on, `ebp` bytes apart, for ever;
    /// each time also to the one `edi` bytes on: negative, so that a page is written again soon after.
    static let sweep: [UInt8] = [
        0x89, 0xDE,  //       again: mov  esi, ebx
        0x89, 0xD1,  //              mov  ecx, edx
        0xFF, 0x06,  //       next:  inc  dword [esi]
        0xFF, 0x04, 0x3E,  //        inc  dword [esi + edi]
        0x01, 0xEE,  //              add  esi, ebp
        0xE2, 0xF7,  //              loop next           ; until --ecx == 0
        0xEB, 0xF1,  //              jmp  again
    ]

    /// Adds one to a word of a page drawn from 4,096, from `ebx` on, for ever. `eax` is the seed.
    static let scatter: [UInt8] = [
        0x69, 0xC0, 0x0D, 0x66, 0x19, 0x00,  // next: imul eax, eax, 1664525
        0x05, 0x5F, 0xF3, 0x6E, 0x3C,  //             add  eax, 1013904223
        0x89, 0xC6,  //                               mov  esi, eax
        0xC1, 0xEE, 0x14,  //                         shr  esi, 20
        0xC1, 0xE6, 0x0C,  //                         shl  esi, 12
        0xFF, 0x04, 0x33,  //                         inc  dword [ebx + esi]
        0xEB, 0xE8,  //                               jmp  next
    ]

    /// Writes `al` to port 0x10, adds one to it, again and again.
    static let count: [UInt8] = [
        0xE6, 0x10,  // next: out  0x10, al
        0xFE, 0xC0,  //       inc  al
        0xEB, 0xFA,  //       jmp  next
    ]
}

/// A virtual machine of one vCPU whose RAM block can be tracked, beside memory with its program.
final class FlatGuest: Sendable {
    static let block = BlockIndex(rawValue: 0)
    /// Where the guest sees the block.
    static let base: UInt64 = 0x1000_0000
    private static let programAddress: UInt64 = 0x1000
    private static let listAddress: UInt64 = 0x2000

    let ram: GuestRAM
    let slots: [KVMSlot]
    let machine: KVMMachine
    let vcpu: KVMVCPU
    private let programMemory: GuestRAM

    /// - Parameter ranges: the pages of `ram` that the guest sees, one memory slot each.
    init(_ ram: GuestRAM, slots ranges: [Range<Int>]) throws {
        let pageBytes = PageSize.target.bytes
        machine = try KVMMachine.open()
        self.ram = ram
        slots = ranges.enumerated().map { number, range in
            let offset = UInt64(range.lowerBound) * pageBytes
            return KVMSlot(
                number: UInt32(number), guestPhysicalAddress: Self.base + offset,
                block: Self.block, offset: RAMOffset(rawValue: offset),
                lengthBytes: UInt64(range.count) * pageBytes,
                hostAddress: HostAddress(rawValue: ram.address.rawValue + offset))
        }
        programMemory = try GuestRAM(
            BlockGeometry(name: "program", lengthBytes: 65_536, hostPage: HostMemory.pageSize),
            backing: .anonymous)
        for slot in slots { try machine.map(slot) }
        try machine.map(
            KVMSlot(
                number: 100, guestPhysicalAddress: 0, block: BlockIndex(rawValue: 1),
                offset: RAMOffset(rawValue: 0), lengthBytes: programMemory.geometry.lengthBytes,
                hostAddress: programMemory.address))
        vcpu = try machine.makeVCPU(id: 0)
    }

    /// A guest that sees all of a fresh block.
    convenience init(pages: Int, backing: RAMBacking = .anonymous) throws {
        try self.init(Self.memory(pages: pages, backing: backing), slots: [0..<pages])
    }

    static func memory(pages: Int, backing: RAMBacking = .anonymous) throws -> GuestRAM {
        let pageSize = FaultRig.pageSize(of: backing)
        return try GuestRAM(
            BlockGeometry(
                name: "ram", lengthBytes: UInt64(pages) * PageSize.target.bytes,
                hostPage: pageSize),
            backing: backing)
    }

    var pageCount: Int { ram.geometry.targetPageCount }

    /// How often the guest wrote to a page.
    func writes(to page: Int) -> UInt64 { ram.loadWord(at: UInt64(page) * PageSize.target.bytes) }

    /// Sets the vCPU to the start of `program`.
    func load(_ program: [UInt8], _ registers: [VCPURegister: UInt64]) throws {
        programMemory.write(program.span, at: RAMOffset(rawValue: Self.programAddress))
        var state = VCPURegisters()
        state[.rip] = Self.programAddress
        for (register, value) in registers { state[register] = value }
        try vcpu.setRegisters(state)
    }

    /// Has the guest write once to each of `pages`.
    func write(_ pages: some Collection<Int>) throws {
        let bytes = pages.flatMap { page in
            let address = UInt32(Self.base) + UInt32(page) << 12
            return (0..<4).map { UInt8(truncatingIfNeeded: address >> ($0 * 8)) }
        }
        try #require(bytes.count <= Int(programMemory.geometry.lengthBytes - Self.listAddress))
        programMemory.write(bytes.span, at: RAMOffset(rawValue: Self.listAddress))
        try load(
            GuestProgram.addOneToEach, [.rsi: Self.listAddress, .rcx: UInt64(pages.count)])
        try #require(runPastSignals() == .halted)
    }

    /// Runs the vCPU until the guest leaves by itself: a signal to this process, as of a child that
    /// ended, may come to this thread.
    func runPastSignals() throws -> VCPUExit {
        for _ in 0..<Self.signalsMax {
            let exit = try vcpu.run()
            if exit != .interrupted { return exit }
        }
        return .interrupted
    }

    /// More than the children that other tests start meanwhile.
    private static let signalsMax = 10_000
}

/// A thread that runs a guest's vCPU and can be held.
final class HeldVCPU: Sendable {
    private let guest: FlatGuest
    private let go: EventFlag
    private let parked: EventFlag
    // Sequentially consistent: written by the test before it stops or starts the vCPU, read behind that.
    private let isRunning = Atomic(false)
    private let isEnding = Atomic(false)

    private init(_ guest: FlatGuest) throws {
        self.guest = guest
        go = try EventFlag()
        parked = try EventFlag()
    }

    /// Runs `body` with a thread for the vCPU, held at first, and ends it.
    static func with(_ guest: FlatGuest, _ body: (HeldVCPU) throws -> Void) throws {
        let vcpu = try HeldVCPU(guest)
        let thread = try JoinableThread(name: "vcpu") { vcpu.serve() }
        let outcome = Result { try body(vcpu) }
        vcpu.isRunning.store(false, ordering: .sequentiallyConsistent)
        vcpu.isEnding.store(true, ordering: .sequentiallyConsistent)
        guest.vcpu.stop()
        vcpu.go.raise()
        #expect(thread.join() == .interrupted)
        try outcome.get()
    }

    func resume() {
        isRunning.store(true, ordering: .sequentiallyConsistent)
        go.raise()
    }

    func pause() throws {
        isRunning.store(false, ordering: .sequentiallyConsistent)
        guest.vcpu.stop()
        try #require(parked.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds))
        parked.clear()
    }

    /// Answers how the vCPU last left its guest; `nil` for an error.
    private func serve() -> VCPUExit? {
        var exit: VCPUExit? = .interrupted
        while exit == .interrupted {
            go.wait()
            go.clear()
            if isEnding.load(ordering: .sequentiallyConsistent) { break }
            repeat {
                exit = try? guest.vcpu.run()
            } while exit == .interrupted && isRunning.load(ordering: .sequentiallyConsistent)
            parked.raise()
        }
        return exit
    }
}
