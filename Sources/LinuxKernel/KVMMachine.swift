internal import CShims
public import PageModel

/// Why this host gives no virtual machine, with the remedy.
public struct KVMRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    /// What the kernel answered.
    public let error: Errno
    /// Whether the kernel has KVM, wherever a node names it.
    private let isKnown: Bool

    package init(error: Errno, isKnown: Bool) {
        self.error = error
        self.isKnown = isKnown
    }

    init(_ error: Errno) { self.init(error: error, isKnown: DeviceNode.isKnown("kvm")) }

    public var description: String { "/dev/kvm: \(error): \(reason)" }

    /// What the error means, and what helps.
    package var reason: String {
        switch error {
        case .noEntry where isKnown:
            "the kernel has it and no node names it here; make one, or give the container /dev/kvm"
        case .noEntry, .noSuchDevice, .noSuchAddress:
            "this host offers none; load the module kvm_intel or kvm_amd, or in a virtual machine "
                + "switch nested virtualization on"
        case .accessDenied, .notPermitted:
            "grant this user read and write on it, as the group kvm has"
        case .noSuchControl: "it is no KVM device; remove it and load the module of KVM"
        case .tooManyFiles, .fileTableFull: FileDescriptor.limitReason
        case .noMemory: "the kernel has no memory for a machine; free some"
        case .busy: "another hypervisor uses the processor's virtualization; unload it"
        default: "see dmesg"
        }
    }

    /// A command that takes the cause away, or shows more of it.
    package var command: String {
        let load = "sudo modprobe kvm_intel || sudo modprobe kvm_amd"
        return switch error {
        case .noEntry where isKnown: DeviceNode.makeCommand("kvm", mode: "660")
        case .noEntry, .noSuchDevice, .noSuchAddress: load
        case .accessDenied, .notPermitted: DeviceNode.grantCommand("kvm")
        case .noSuchControl: "sudo rm /dev/kvm && { \(load); }"
        case .tooManyFiles, .fileTableFull: FileDescriptor.limitCommand
        case .noMemory: "free -m"
        case .busy: "lsmod"
        default: "sudo dmesg"
        }
    }
}

/// A run of a RAM block at the place where the guest sees it: one memory slot of KVM.
public struct KVMSlot: Equatable, Sendable {
    /// The VMM's own number, unique in its machine.
    public let number: UInt32
    /// Where the guest sees it.
    public let guestPhysicalAddress: UInt64
    /// The RAM block that it is a part of.
    public let block: BlockIndex
    /// Where the slot begins in its block.
    public let offset: RAMOffset
    /// How long it is; whole pages.
    public let lengthBytes: UInt64
    /// Where the slot's memory begins in this process.
    public let hostAddress: HostAddress

    /// A slot as it was, or will be, given to KVM.
    public init(
        number: UInt32, guestPhysicalAddress: UInt64, block: BlockIndex, offset: RAMOffset,
        lengthBytes: UInt64, hostAddress: HostAddress
    ) {
        self.number = number
        self.guestPhysicalAddress = guestPhysicalAddress
        self.block = block
        self.offset = offset
        self.lengthBytes = lengthBytes
        self.hostAddress = hostAddress
    }

    /// The whole of a RAM block.
    public init(
        number: UInt32, of ram: GuestRAM, block: BlockIndex, guestPhysicalAddress: UInt64
    ) {
        self.init(
            number: number, guestPhysicalAddress: guestPhysicalAddress, block: block,
            offset: RAMOffset(rawValue: 0), lengthBytes: ram.geometry.lengthBytes,
            hostAddress: ram.address)
    }

    /// Makes the slot in `machine`, or changes whether its writes are logged.
    func set(isLogged: Bool, in machine: borrowing FileDescriptor) throws(Errno) {
        var memory = pc_kvm_memory(
            slot: number, is_logged: isLogged ? 1 : 0, guest_address: guestPhysicalAddress,
            length: lengthBytes, host_address: hostAddress.rawValue)
        try Errno.check(unsafe pc_kvm_set_memory(machine.raw, &memory))
    }
}

/// A virtual machine without devices. It takes `SIGUSR1` of the process to stop vCPUs, as QEMU does.
///
/// Threads: any.
public struct KVMMachine: ~Copyable, Sendable {
    private let descriptor: FileDescriptor
    private let sharedBytes: UInt64

    private init(_ descriptor: consuming FileDescriptor, sharedBytes: UInt64) {
        self.descriptor = descriptor
        self.sharedBytes = sharedBytes
    }

    /// A new machine, without memory and vCPUs (`KVM_CREATE_VM`).
    public static func open() throws(KVMRefusal) -> KVMMachine {
        KVMVCPU.catchStopSignal()
        do throws(Errno) {
            let device = FileDescriptor(owning: try Errno.check(pc_kvm_open()))
            let sharedBytes = try Errno.check(pc_kvm_shared_length(device.raw))
            let machine = try Errno.check(pc_kvm_create_machine(device.raw))
            return KVMMachine(FileDescriptor(owning: machine), sharedBytes: UInt64(sharedBytes))
        } catch {
            throw KVMRefusal(error)
        }
    }

    /// For `KVMDirtyLog` and for calls that this type lacks; the machine stays its owner.
    public var rawDescriptor: Int32 { descriptor.raw }

    /// Shows memory to the guest. The memory must outlive the machine's vCPUs.
    /// - Throws: `EEXIST` where another slot overlaps in the guest's addresses.
    public func map(_ slot: KVMSlot) throws(Errno) { try slot.set(isLogged: false, in: descriptor) }

    /// Makes a vCPU in 32-bit protected mode whose segments span all addresses, without paging.
    /// - Throws: `EEXIST` when `id` is taken, `ENOSYS` on another processor than x86_64.
    public func makeVCPU(id: UInt32) throws(Errno) -> KVMVCPU {
        let vcpu = FileDescriptor(owning: try Errno.check(pc_kvm_create_vcpu(descriptor.raw, id)))
        let shared = SharedState(
            address: UInt64(
                try Errno.check(pc_map(vcpu.raw, sharedBytes, HostMemory.pageSize.bytes))),
            lengthBytes: sharedBytes)
        try Errno.check(pc_kvm_set_flat_mode(vcpu.raw))
        return KVMVCPU(vcpu, shared)
    }
}
