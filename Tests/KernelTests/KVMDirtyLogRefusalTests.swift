import CShims
import Glibc
import LinuxKernel
import PageModel
import Testing

@Suite("KVMDirtyLog refuses", .enabled(if: HostUnderTest.hasKVM, "needs access to /dev/kvm"))
struct KVMDirtyLogRefusalTests {
    private static let page = PageSize.target.bytes

    /// What is said of a log whose slots are `slots`, by `check` and by `start` alike.
    private static func refusal(of slots: (FlatGuest) -> [KVMSlot]) throws -> String? {
        let guest = try FlatGuest(pages: 128)
        let log = try KVMDirtyLog(
            machine: guest.machine.rawDescriptor, blocks: [guest.ram.geometry],
            slots: slots(guest))
        let refusals = [log.check, log.start].map { call in
            #expect(throws: TrackerRefusal.self) { try call() }?.description
        }
        #expect(refusals[0] == refusals[1])
        return refusals[0]
    }

    /// The guest's only slot, with something changed.
    private static func changed(
        block: Int = 0, offset: UInt64 = 0, length: UInt64 = 128 * page, guestShift: UInt64 = 0,
        hostShift: UInt64 = 0
    ) -> (FlatGuest) -> [KVMSlot] {
        { guest in
            [
                KVMSlot(
                    number: 0, guestPhysicalAddress: FlatGuest.base + guestShift,
                    block: BlockIndex(rawValue: block), offset: RAMOffset(rawValue: offset),
                    lengthBytes: length,
                    hostAddress: HostAddress(rawValue: guest.ram.address.rawValue + hostShift))
            ]
        }
    }

    @Test(
        "chunks that the kernel cannot clear",
        arguments: [0, 1, 4096, 128 << 10, (256 << 10) + 4096, 3 << 20] as [UInt64])
    func chunk(bytes: UInt64) {
        let refusal = #expect(throws: TrackerRefusal.self) {
            try KVMDirtyLog(machine: 0, blocks: [], slots: [], chunkBytes: bytes)
        }
        #expect(refusal?.description.contains("256 KiB") == true)
    }

    @Test("slots that are not in a block", arguments: [-1, 1, 1000])
    func unknownBlock(index: Int) throws {
        let refusal = try Self.refusal(of: Self.changed(block: index))
        #expect(refusal == "memory slot 0 is of RAM block \(index), and there are 1")
    }

    @Test("slots that reach out of their block")
    func outside() throws {
        let far = UInt64.max - Self.page + 1
        for slot in [
            Self.changed(offset: Self.page), Self.changed(length: 129 * Self.page),
            Self.changed(offset: far), Self.changed(offset: 129 * Self.page, length: Self.page),
        ] {
            #expect(
                try Self.refusal(of: slot) == "memory slot 0 reaches beyond RAM block 'ram'")
        }
    }

    @Test("slots that do not lie on pages")
    func unaligned() throws {
        for slot in [
            Self.changed(guestShift: 1), Self.changed(hostShift: 2048),
            Self.changed(length: 4097), Self.changed(offset: 8, length: Self.page),
        ] {
            #expect(
                try Self.refusal(of: slot) == "memory slot 0 does not begin and end with a page")
        }
    }

    @Test("slots of no length or of too much")
    func lengths() throws {
        for length in [0, UInt64.max, 1 << 43] {
            let refusal = try Self.refusal(of: Self.changed(length: length))
            #expect(refusal?.hasPrefix("memory slot 0 is empty, or longer") == true)
        }
    }

    @Test("no slots, and one slot described twice")
    func slotList() throws {
        #expect(try Self.refusal { _ in [] }?.hasPrefix("no memory slot") == true)
        let twice = try Self.refusal { $0.slots + $0.slots }
        #expect(twice?.hasPrefix("two memory slots have one number") == true)
    }

    @Test("slots that the machine has elsewhere, with no slot left logging")
    func otherSlot() throws {
        let guest = try FlatGuest(FlatGuest.memory(pages: 128), slots: [0..<64, 64..<128])
        let moved = KVMSlot(
            number: 1, guestPhysicalAddress: guest.slots[1].guestPhysicalAddress,
            block: FlatGuest.block, offset: guest.slots[1].offset,
            lengthBytes: 32 * Self.page, hostAddress: guest.slots[1].hostAddress)
        let log = try KVMDirtyLog(
            machine: guest.machine.rawDescriptor, blocks: [guest.ram.geometry],
            slots: [guest.slots[0], moved])
        try log.check()
        let refusal = #expect(throws: TrackerRefusal.self) { try log.start() }
        #expect(refusal?.description.hasPrefix("memory slot 1 cannot be logged") == true)
        var words = [UInt64](repeating: 0, count: 1)
        for slot in guest.slots {
            let raw = guest.machine.rawDescriptor
            #expect(unsafe pc_kvm_get_dirty_log(raw, slot.number, &words) == -ENOENT)
        }
    }

    @Test("descriptors of something else")
    func descriptors() throws {
        let guest = try FlatGuest(pages: 64)
        let refusal = #expect(throws: TrackerRefusal.self) {
            try KVMDirtyLog(machine: -1, blocks: [guest.ram.geometry], slots: guest.slots)
        }
        #expect(refusal?.description.contains("Bad file descriptor") == true)
        let null = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        let log = try KVMDirtyLog(
            machine: null, blocks: [guest.ram.geometry], slots: guest.slots)
        let unfit = #expect(throws: TrackerRefusal.self) { try log.check() }
        #expect(unfit?.description.contains("descriptor of a virtual machine") == true)
    }
}
