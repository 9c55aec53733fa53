/// The device state of a test workload: what it is, and how far each vCPU has come.
///
/// It travels in the package of a migration. Layout, all integers big-endian:
/// ```
///  0  u32  magic "PCWL"             26  u64  accesses per second
///  4  u16  version, 1               34  u64  hot set, bytes
///  6  u64  seed                     42  u64  memory, bytes
/// 14  u16  vCPUs                    50  per vCPU: u64 steps done, u64 random,
/// 16  u8   pattern                      u64 cursor, u64 read checksum
/// 17  u8   fill                     50 + 32 * vCPUs
/// 18  u64  write fraction (bits)        u64  checksum of all bytes before it
/// ```
public struct WorkloadState: Equatable, Sendable {
    public let specification: WorkloadSpecification
    /// One per vCPU, in the order of vCPUs.
    public let generators: [GeneratorState]

    /// 2^48 steps are a month of one vCPU at 10 ns each: no run reaches it, and a replay of more
    /// would not end.
    public static let stepsDoneMax: UInt64 = 1 << 48

    /// - Precondition: there is one generator per vCPU.
    public init(specification: WorkloadSpecification, generators: [GeneratorState]) {
        precondition(generators.count == specification.vcpuCount)
        self.specification = specification
        self.generators = generators
    }

    /// Before the first step.
    public init(initialOf specification: WorkloadSpecification) {
        self.init(
            specification: specification,
            generators: (0..<specification.vcpuCount).map {
                GeneratorState(specification: specification, vcpu: $0)
            })
    }

    /// The steps of all vCPUs together.
    public var stepsDone: UInt64 { generators.reduce(0) { $0 &+ $1.stepsDone } }
}
