internal import LinuxKernel
internal import Synchronization

/// The vCPU threads that are still to be joined, in the order of vCPUs.
///
/// One controlling thread calls `add` and `join`.
final class VCPUThreads: Sendable {
    /// A place for one thread: no array holds what cannot be copied, an array of places does.
    private final class Place: Sendable {
        private let thread: Mutex<JoinableThread<StallProbe>?>

        init(_ vcpu: VCPU) throws(Errno) {
            thread = Mutex(
                try JoinableThread(name: "vcpu\(vcpu.number)") { vcpu.run() })
        }

        func join() -> StallProbe? {
            let thread = thread.withLock { $0.take() }
            switch consume thread {
            case .some(let thread): return thread.join()
            case .none: return nil
            }
        }
    }

    private let places = Mutex<[Place]>([])

    func add(_ vcpu: VCPU) throws(Errno) {
        let place = try Place(vcpu)
        places.withLock { $0.append(place) }
    }

    /// What each thread brought back; waits for all of them.
    func join() -> [StallProbe] {
        let ended = places.withLock { places in
            defer { places = [] }
            return places
        }
        return ended.compactMap { $0.join() }
    }
}
