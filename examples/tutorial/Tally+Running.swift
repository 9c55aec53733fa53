import Postcopy
import Synchronization

extension Tally {
    /// Lets the vCPU run.
    func resume() {
        mayRun.store(true, ordering: .releasing)
        var vcpu = try? JoinableThread(name: "tally") { [self] in run() }
        thread.withLock { $0 = vcpu.take() }
    }

    /// Returns when no vCPU runs any more: from then on nobody writes to memory.
    func pause() {
        mayRun.store(false, ordering: .releasing)
        let vcpu = thread.withLock { $0.take() }
        vcpu?.join()
    }

    private func run() {
        let pages = UInt64(memory[0].geometry.targetPageCount)
        while mayRun.load(ordering: .acquiring) {
            let step = written.load(ordering: .relaxed)
            let (round, page) = step.quotientAndRemainder(dividingBy: pages)
            // A page that is not here yet holds this thread up until it is.
            if memory[0].loadWord(at: page << 12) != round {
                mismatches.add(1, ordering: .relaxed)
            }
            memory[0].storeWord(round + 1, at: page << 12)
            written.store(step + 1, ordering: .relaxed)
        }
    }
}
