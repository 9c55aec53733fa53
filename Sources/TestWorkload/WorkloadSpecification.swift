internal import PageModel

/// Everything that determines a test workload, apart from how far it has run.
///
/// Two workloads of equal specification do the same steps in the same order on each vCPU.
public struct WorkloadSpecification: Equatable, Sendable {
    /// Determines the content of memory and every choice of every vCPU.
    public let seed: UInt64
    public let vcpuCount: Int
    public let pattern: AccessPattern
    /// The share of accesses that write, 0...1.
    public let writeFraction: Double
    /// The first bytes of memory, which the vCPUs divide among themselves.
    public let hotSetBytes: UInt64
    /// Accesses per second of each vCPU; 0 is as fast as possible.
    public let accessesPerSecond: UInt64
    public let fill: InitialFill
    public let memoryBytes: UInt64

    /// The unit of content and of access: the target page, 4096 bytes.
    public static var pageBytes: UInt64 { PageSize.target.bytes }
    /// Each vCPU is a thread that may run without pause: 64 covers the largest host we test on,
    /// and keeps the saved state below 3 KiB.
    public static let vcpuCountMax = 64
    /// A page number then fits 32 bits, so that picking a page is one multiplication.
    public static let memoryBytesMax: UInt64 = 1 << 44
    /// One access per nanosecond, which no vCPU reaches.
    public static let accessesPerSecondMax: UInt64 = 1_000_000_000

    /// - Throws: `WorkloadError.option` for the first value that is out of range.
    public init(
        seed: UInt64, vcpuCount: Int, pattern: AccessPattern, writeFraction: Double,
        hotSetBytes: UInt64, accessesPerSecond: UInt64, fill: InitialFill, memoryBytes: UInt64
    ) throws(WorkloadError) {
        try Self.check(vcpuCount: vcpuCount)
        try Self.check(writeFraction: writeFraction)
        try Self.check(memoryBytes: memoryBytes)
        try Self.check(hotSetBytes: hotSetBytes, vcpuCount: vcpuCount, memoryBytes: memoryBytes)
        try Self.check(accessesPerSecond: accessesPerSecond)
        self.seed = seed
        self.vcpuCount = vcpuCount
        self.pattern = pattern
        self.writeFraction = writeFraction
        self.hotSetBytes = hotSetBytes
        self.accessesPerSecond = accessesPerSecond
        self.fill = fill
        self.memoryBytes = memoryBytes
    }

    public var pageCount: Int { Int(memoryBytes / Self.pageBytes) }
    public var hotPageCount: Int { Int(hotSetBytes / Self.pageBytes) }

    /// The pages that only `vcpu` accesses: an equal part of the hot set, the last one with the
    /// remainder.
    /// - Precondition: `vcpu` is in `0..<vcpuCount`.
    public func pages(of vcpu: Int) -> Range<Int> {
        precondition((0..<vcpuCount).contains(vcpu))
        let part = hotPageCount / vcpuCount
        let first = part * vcpu
        return first..<(vcpu == vcpuCount - 1 ? hotPageCount : first + part)
    }

    private static func check(vcpuCount: Int) throws(WorkloadError) {
        guard (1...vcpuCountMax).contains(vcpuCount) else {
            throw .option(
                name: "vcpus", value: "\(vcpuCount)", remedy: "give 1 to \(vcpuCountMax)")
        }
    }

    private static func check(writeFraction: Double) throws(WorkloadError) {
        // Not a number fails both comparisons; minus zero would not survive a comparison of bytes.
        guard writeFraction >= 0, writeFraction <= 1, writeFraction.sign == .plus else {
            throw .option(
                name: "write-fraction", value: "\(writeFraction)", remedy: "give 0.0 to 1.0")
        }
    }

    private static func check(memoryBytes: UInt64) throws(WorkloadError) {
        guard memoryBytes > 0, memoryBytes <= memoryBytesMax, memoryBytes % pageBytes == 0 else {
            throw .option(
                name: "memory", value: "\(memoryBytes)",
                remedy: "give a multiple of \(pageBytes) bytes, at most \(memoryBytesMax)")
        }
    }

    private static func check(
        hotSetBytes: UInt64, vcpuCount: Int, memoryBytes: UInt64
    ) throws(WorkloadError) {
        let least = UInt64(vcpuCount) * pageBytes
        guard hotSetBytes >= least, hotSetBytes <= memoryBytes, hotSetBytes % pageBytes == 0 else {
            throw .option(
                name: "hot-set", value: "\(hotSetBytes)",
                remedy: "give a multiple of \(pageBytes) bytes, at least \(least) (one page per "
                    + "vCPU) and at most the memory, \(memoryBytes)")
        }
    }

    private static func check(accessesPerSecond: UInt64) throws(WorkloadError) {
        guard accessesPerSecond <= accessesPerSecondMax else {
            throw .option(
                name: "rate", value: "\(accessesPerSecond)",
                remedy: "give 1 to \(accessesPerSecondMax) accesses per second and vCPU, or 0 for "
                    + "as fast as possible")
        }
    }
}
