internal import LinuxKernel
internal import Synchronization

extension DestinationSession {
    /// Gives the memory of a guest that has every page back what the postcopy took from it: huge
    /// pages and its lock. The guest runs meanwhile, and the source was told.
    /// Source: `cleanup_range` and `postcopy_ram_incoming_cleanup` of QEMU.
    func restoreMemory(_ report: inout MemoryReport) {
        let blocks = state.list.sent.map(\.ram)
        for ram in blocks {
            ram.allowHugePages()
            do { try ram.resumeLock() } catch {
                if report.lockProblem == nil { report.lockProblem = "\(error)" }
            }
        }
        if let healed = heal() {
            report.healedRanges = healed.ranges
            report.healNanoseconds = healed.nanoseconds
        }
        report.hugeBytesAtEnd = GuestRAM.hugeBytes(of: blocks)
    }

    private func heal() -> Healing.Outcome? {
        guard let faults = state.firstFaults else { return nil }
        let blocks = state.blocks
        let thread = try? JoinableThread(name: "pc-heal") { [self] in
            Healing.run(faults.ranges(), of: blocks) {
                self.isCancelled.load(ordering: .relaxed)
            }
        }
        return thread?.join()
    }
}
