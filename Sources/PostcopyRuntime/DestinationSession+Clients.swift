internal import LinuxKernel
internal import PageModel
internal import Synchronization

// Other processes that share the guest's memory.
extension DestinationSession {
    /// Serves the missing pages of another process from here on: its faults are answered as those of the
    /// guest's own threads are, but for blocktime, which knows no threads of others.
    ///
    /// Call it from `Guest.loadDevices`, or at any time before the process touches memory. Whoever waits in a
    /// page by then is found. When every page is here the client is released by itself, before
    /// `run` returns: it waits nowhere any more, and may be told so (`POSTCOPY_END` of vhost-user), at
    /// the earliest in `Guest.memoryArrived`. A client that comes later is released at once; so is
    /// one of a guest that was given up or will not run here: it gets memory errors in missing
    /// pages of the former (`abandon`), and reads zeros in those of the latter.
    ///
    /// Threads: any. Blocking: no.
    /// - Throws: when its table does not fit this guest; when it was attached before; or when the
    ///   migration has ended and its pages will not come.
    public func attach(_ client: SharedClient) throws(SharedClientError) {
        let attached = try AttachedClient(client, of: state.blocks)
        guard client.claim() else { throw .alreadyAttached }
        switch state.clients.add(attached) {
        case .pagesAreHere: client.release()
        case .pagesAreLost:
            client.unclaim()
            throw .migrationEnded
        case nil: state.faultFlag.raise()
        }
    }

    /// Serves a client no longer that is gone, or that was made to stop touching memory. It is not
    /// released: whoever waits in a missing page there waits on, until the client closes its
    /// userfaultfd, and would then make a page that has yet to come.
    /// - Returns: whether it was served.
    @discardableResult
    public func detach(_ client: SharedClient) -> Bool {
        let isFound = state.clients.remove(client)
        state.faultFlag.raise()
        return isFound
    }
}

extension DestinationState {
    /// Ends the faults of every client, and takes no more.
    func releaseClients() {
        let ending: ClientRegistry.Ending =
            demand.missing.load(ordering: .relaxed) == 0 ? .pagesAreHere : .pagesAreLost
        for left in clients.end(ending) { left.client.release() }
    }

    /// Gives every missing page a content that is lost, here and in each client, and ends all faults.
    func loseMissing() {
        let left = clients.end(.pagesAreLost)
        try? poisonMissing()
        forEachMissing { pages, index, ram in
            let shift = UInt64(ram.geometry.hostPage.shift)
            let lower = UInt64(pages.lowerBound.rawValue) << shift
            let offsets = lower..<UInt64(pages.upperBound.rawValue) << shift
            for client in left { client.poison(offsets, of: index) }
        }
        // Without poison whoever waits is woken and reads zeros.
        endFaults()
        for lost in left { lost.client.release() }
    }
}
