internal import CShims

/// Why bytes are no `VCPUState`.
public struct VCPUStateError: Error, Equatable, Sendable, CustomStringConvertible {
    /// How many there are.
    public let lengthBytes: Int
    /// How many a state has on this host.
    public let expectedBytes: Int

    public var description: String {
        "the state of a vCPU has \(expectedBytes) bytes here, not \(lengthBytes): run the same kind "
            + "of processor at both sides"
    }
}

/// Where a vCPU stands that does not run: general and special registers, x87 and SSE, and events on
/// their way to it.
///
/// Enough for a guest without interrupt controller, clock and vector extensions. Model-specific
/// registers, `XSAVE` and the local APIC are not in it: a VMM whose guest has them asks the kernel
/// itself.
/// Source: `kvm_arch_get_registers` of QEMU (`target/i386/kvm/kvm.c`).
public struct VCPUState: Equatable, Sendable {
    /// The general registers.
    public var registers: VCPURegisters
    /// By `pc_kvm_part`, byte for byte as the kernel has them.
    fileprivate var parts: [[UInt8]]

    /// Events stand last: setting general registers forgets them.
    fileprivate static let partKinds = [
        PC_KVM_SPECIAL_REGISTERS, PC_KVM_FLOATING_POINT, PC_KVM_EVENTS,
    ]

    fileprivate static func emptyParts() throws(Errno) -> [[UInt8]] {
        try partKinds.map { kind throws(Errno) in
            [UInt8](repeating: 0, count: Int(try Errno.check(pc_kvm_part_length(kind))))
        }
    }

    fileprivate init(registers: VCPURegisters, parts: [[UInt8]]) {
        self.registers = registers
        self.parts = parts
    }

    private static let registerBytes = VCPURegister.allCases.count * 8

    /// The bytes that `init(decoding:)` takes: the kernel's structures one behind the other.
    ///
    /// Layout: `kvm_regs`, `kvm_sregs`, `kvm_fpu`, `kvm_vcpu_events` of `asm/kvm.h`.
    public func encoded() -> [UInt8] {
        let words = registers.words.flatMap { word in
            (0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
        }
        return parts.reduce(words, +)
    }

    /// Takes `bytes` as a whole. Whether a vCPU can stand there is for the kernel to say.
    /// - Throws: when they are not as many as this host's state has.
    public init(decoding bytes: [UInt8]) throws(VCPUStateError) {
        parts = (try? Self.emptyParts()) ?? []
        registers = VCPURegisters()
        let expected = Self.registerBytes + parts.reduce(0) { $0 + $1.count }
        guard bytes.count == expected else {
            throw VCPUStateError(lengthBytes: bytes.count, expectedBytes: expected)
        }
        for index in registers.words.indices {
            registers.words[index] = (0..<8).reversed().reduce(0) { word, byte in
                word << 8 | UInt64(bytes[index * 8 + byte])
            }
        }
        var start = Self.registerBytes
        for index in parts.indices {
            let end = start + parts[index].count
            parts[index] = Array(bytes[start..<end])
            start = end
        }
    }
}

extension KVMVCPU {
    /// All that this type knows of where the vCPU stands.
    ///
    /// Only behind a `run` that answered `.interrupted`: an instruction that made the guest leave is
    /// otherwise half done, and its other half is in no register.
    public func state() throws(Errno) -> VCPUState {
        var parts = try VCPUState.emptyParts()
        for (index, kind) in VCPUState.partKinds.enumerated() {
            try Errno.check(unsafe pc_kvm_get_part(descriptor.raw, kind, &parts[index]))
        }
        return VCPUState(registers: try registers(), parts: parts)
    }

    /// Has the vCPU go on from there at the next `run`.
    /// - Throws: `EINVAL` for a state that no vCPU can have.
    public func setState(_ state: VCPUState) throws(Errno) {
        try setRegisters(state.registers)
        for (kind, bytes) in zip(VCPUState.partKinds, state.parts) {
            try Errno.check(unsafe pc_kvm_set_part(descriptor.raw, kind, bytes))
        }
    }
}
