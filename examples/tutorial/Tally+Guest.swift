import Postcopy
import Synchronization

extension Tally {
    /// Faults of this process's own threads; a guest in KVM needs those of the kernel as well.
    var faultOrigin: FaultOrigin { .userOnly }

    /// Threads whose waits are accounted for; none, since `resume` makes ours too late for that.
    var vcpuThreads: [Int32] { [] }

    func saveDevices() -> [UInt8] {
        let count = written.load(ordering: .relaxed)
        return (0..<8).map { UInt8(truncatingIfNeeded: count >> (56 - 8 * $0)) }
    }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        guard sections.count == 8 else { throw GuestError("a tally's state is 8 bytes long") }
        written.store(sections.reduce(0) { $0 << 8 | UInt64($1) }, ordering: .relaxed)
    }
}
