/// How long all vCPUs have been blocked at once.
///
/// Source: `last_begin` and `total_blocktime` of QEMU's `PostcopyBlocktimeContext`.
struct Overlap: Sendable {
    /// Threads that run vCPUs; without any there is no overlap.
    private let vcpuCount: Int
    private var blockedCount = 0
    /// When the last of them blocked, while all are.
    private var since: UInt64?
    private(set) var nanoseconds: UInt64

    init(vcpuCount: Int = 0, nanoseconds: UInt64 = 0) {
        self.vcpuCount = vcpuCount
        self.nanoseconds = nanoseconds
    }

    mutating func block(at now: UInt64) {
        blockedCount += 1
        if blockedCount == vcpuCount { since = now }
    }

    mutating func release(at now: UInt64) {
        end(at: now)
        blockedCount -= 1
    }

    /// Counts an overlap up to `now`.
    mutating func end(at now: UInt64) {
        guard let since else { return }
        nanoseconds += now - since
        self.since = nil
    }
}
