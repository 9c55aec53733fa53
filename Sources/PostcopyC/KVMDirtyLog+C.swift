internal import CPostcopy
internal import Postcopy

extension KVMDirtyLog {
    /// More memory slots than KVM gives a machine (`KVM_USER_MEM_SLOTS`, 32,764 on x86).
    private static var slotCountMax: Int { 32_768 }

    /// The dirty log of the machine that `guest` names.
    convenience init(_ guest: postcopy_guest, _ memory: [GuestRAM]) throws(TrackerRefusal) {
        let count = unsafe guest.kvm_slot_count
        guard (0...Self.slotCountMax).contains(count) else {
            throw TrackerRefusal("\(count) memory slots are over \(Self.slotCountMax)")
        }
        var slots: [KVMSlot] = []
        for index in 0..<count {
            guard let given = unsafe guest.kvm_slots else {
                throw TrackerRefusal("postcopy_guest.kvm_slots is NULL")
            }
            let slot = unsafe given[index]
            let block = Int(slot.block)
            guard memory.indices.contains(block) else {
                throw TrackerRefusal(
                    "memory slot \(slot.number) is of RAM block \(block), and there are "
                        + "\(memory.count)"
                )
            }
            let (host, overflow) = memory[block].address.rawValue
                .addingReportingOverflow(slot.offset)
            guard !overflow else {
                throw TrackerRefusal("memory slot \(slot.number) begins beyond its RAM block")
            }
            slots.append(
                KVMSlot(
                    number: slot.number, guestPhysicalAddress: slot.guest_physical_address,
                    block: BlockIndex(rawValue: block), offset: RAMOffset(rawValue: slot.offset),
                    lengthBytes: slot.length, hostAddress: HostAddress(rawValue: host)))
        }
        try self.init(
            machine: unsafe guest.kvm_machine, blocks: memory.map(\.geometry), slots: slots)
    }
}
