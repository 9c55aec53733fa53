internal import CShims
internal import Glibc
internal import Synchronization

/// Why a vCPU left its guest.
public enum VCPUExit: Equatable, Sendable {
    /// The guest waits for an interrupt (`HLT`).
    case halted
    /// The guest wrote to an I/O port.
    case output(port: UInt16, value: UInt32)
    /// `stop` was called, or another signal came: whoever runs the vCPU knows whether to go on.
    case interrupted
    /// `KVM_EXIT_*` of the kernel's header.
    case other(reason: UInt32)
}

/// The general registers, in the order of `struct kvm_regs`.
public enum VCPURegister: Int, CaseIterable, Sendable {
    /// General registers, in the order in which KVM has them.
    case rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp
    /// The further ones.
    case r8, r9, r10, r11, r12, r13, r14, r15
    /// Where the vCPU is, and its flags.
    case rip, rflags
}

/// What the general registers hold.
public struct VCPURegisters: Equatable, Sendable {
    var words = [UInt64](repeating: 0, count: VCPURegister.allCases.count)

    /// All zero, but for the flag that is always set.
    public init() { self[.rflags] = 2 }

    /// The value of one register.
    public subscript(register: VCPURegister) -> UInt64 {
        get { words[register.rawValue] }
        set { words[register.rawValue] = newValue }
    }
}

/// A processor of a `KVMMachine`.
///
/// Threads: one calls `run` and uses the registers; any may call `stop`.
public struct KVMVCPU: ~Copyable, Sendable {
    let descriptor: FileDescriptor
    private let shared: SharedState
    /// The thread inside `run`, 0 for none. Sequentially consistent: `run` says here that it runs and
    /// has the kernel look whether to stop; `stop` asks to stop and looks here. One sees the other.
    private let runner = Atomic<Int32>(0)

    /// `SIG_IPI` of QEMU.
    private static let stopSignal = SIGUSR1

    init(_ descriptor: consuming FileDescriptor, _ shared: consuming SharedState) {
        self.descriptor = descriptor
        self.shared = shared
    }

    /// Keeps the signal from ending the process; it need not do more to bring a vCPU back.
    static func catchStopSignal() { signal(stopSignal) { _ in } }

    /// Runs the guest until it leaves. An instruction that made it leave is completed by the next
    /// `run`, unless the instruction pointer was changed: only once that has answered `.interrupted`
    /// do registers and memory say where the guest stands.
    ///
    /// While the guest waits for a missing page its thread sleeps in here, and is told apart by
    /// userfaultfd as any other thread. From Linux 6.2 on `stop` ends that wait, unless KVM carries the
    /// instruction out itself; otherwise only the page does.
    public func run() throws(Errno) -> VCPUExit {
        // A thread may block it, as `JoinableThread` does.
        SignalMask.unblock([Self.stopSignal])
        runner.store(pc_thread_id(), ordering: .sequentiallyConsistent)
        defer { runner.store(0, ordering: .sequentiallyConsistent) }
        var exit = pc_kvm_exit()
        let answer = unsafe pc_kvm_run(descriptor.raw, shared.address, &exit)
        if answer == -EINTR {
            _ = pc_kvm_set_immediate_exit(shared.address, 0)
            return .interrupted
        }
        try Errno.check(answer)
        if exit.is_output != 0 {
            return .output(port: UInt16(truncatingIfNeeded: exit.port), value: exit.value)
        }
        return exit.reason == UInt32(PC_KVM_EXIT_HALT) ? .halted : .other(reason: exit.reason)
    }

    /// Makes `run` return: the one under way, else the next one. Does not wait for that.
    public func stop() {
        _ = pc_kvm_set_immediate_exit(shared.address, 1)
        let thread = runner.load(ordering: .sequentiallyConsistent)
        // It may have left meanwhile: a signal more than needed does no harm.
        if thread != 0 { _ = pc_thread_signal(thread, Self.stopSignal) }
    }

    /// The general registers (`KVM_GET_REGS`).
    public func registers() throws(Errno) -> VCPURegisters {
        var registers = VCPURegisters()
        try Errno.check(unsafe pc_kvm_get_registers(descriptor.raw, &registers.words))
        return registers
    }

    /// Gives it general registers (`KVM_SET_REGS`).
    public func setRegisters(_ registers: VCPURegisters) throws(Errno) {
        try Errno.check(unsafe pc_kvm_set_registers(descriptor.raw, registers.words))
    }
}

extension VCPURegisters {
    /// In `rflags`: user mode may use ports (`IOPL` 3).
    public static let portPrivilege: UInt64 = 3 << 12
}

/// Modes other than the flat one that a vCPU is made in.
extension KVMVCPU {
    /// Has the vCPU run 64-bit code in user mode, over the page table of four levels at
    /// `pageTableAddress` of the guest: what every kind of KVM runs at full speed, also where one lies
    /// in the other without help of the processor. Port instructions need I/O privilege in the flags
    /// (`VCPURegisters.portPrivilege`).
    ///
    /// - Throws: `ENOSYS` on another processor than x86_64.
    public func setUserMode(pageTableAddress: UInt64) throws(Errno) {
        try Errno.check(pc_kvm_set_user_mode(descriptor.raw, pageTableAddress))
    }
}

/// The state that a vCPU's descriptor shares with this process while it is mapped.
struct SharedState: ~Copyable, Sendable {
    let address: UInt64
    let lengthBytes: UInt64

    deinit { _ = pc_unmap(address, lengthBytes) }
}
