internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// The clients that the fault thread serves.
struct ServedClients {
    private(set) var all: [AttachedClient] = []
    /// The registry's count when they were taken.
    private var change = -1
    private var isServing = false

    /// Takes over who came and went; answers whether anybody did.
    mutating func take(_ registry: ClientRegistry) -> Bool {
        let change = registry.changes.load(ordering: .acquiring)
        let isServing = registry.areServed.load(ordering: .acquiring)
        guard change != self.change || isServing != self.isServing else { return false }
        self.change = change
        self.isServing = isServing
        all = isServing ? registry.current.filter { !$0.client.hasFailed } : []
        return true
    }

    /// Wakes whoever waits for a page that is here.
    func wake(_ page: HostPage, _ geometry: BlockGeometry) {
        let start = geometry.offset(of: page.page).rawValue
        for client in all {
            client.wake(start..<start + geometry.hostPage.bytes, of: page.block)
        }
    }
}

// Missing pages of other processes. This thread alone closes pages that somebody waits for, those that
// the stream thread placed included, so that it alone wakes clients: between a client's fault being
// noted and its page being closed there is no other thread that could overlook it.
extension FaultThread {
    /// Reads a client's faults and asks for their pages in one write.
    mutating func takeFaults(
        of client: AttachedClient, isReadable: Bool
    ) throws(Trouble) {
        var trouble: PlacingError?
        do throws(Errno) {
            // Its descriptor would make this thread wait, which waits for nobody.
            guard isReadable else { throw .invalidArgument }
            try client.client.userfaultfd.readFaults { address in
                client.client.faults.add(1, ordering: .relaxed)
                guard let (page, place) = locate(address, of: client) else { return }
                do throws(PlacingError) { try answer(page, at: place) } catch {
                    trouble = error
                    setAside(place)
                }
            }
        } catch {
            // It is the client's trouble and not the migration's.
            client.client.isLost.store(true, ordering: .relaxed)
            state.clients.changes.add(1, ordering: .releasing)
            state.faultFlag.raise()
        }
        if let trouble { throw Trouble(event: state.linkLoss, problem: trouble.description) }
        try sendOutgoing()
    }

    /// The page of a client's fault, and where it is in this process; `nil` where no page is ever
    /// missing.
    private func locate(
        _ address: ClientAddress, of client: AttachedClient
    ) -> (page: HostPage, place: HostAddress)? {
        guard let region = client.table.region(at: address) else {
            client.client.strays.add(1, ordering: .relaxed)
            return nil
        }
        let ram = state.blocks[region.block.rawValue]
        let offset = RAMOffset(
            rawValue: region.offset.rawValue + (address.rawValue - region.address.rawValue))
        // Nothing of it is sent, or not any more: a fault there is a hole of the file.
        guard !state.list.isIgnored(ram), offset.rawValue < ram.usedBytes else {
            client.release(region)
            return nil
        }
        let page = HostPage(
            block: region.block, page: ram.geometry.hostPage(containing: offset))
        return (page, HostAddress(rawValue: ram.address.rawValue + offset.rawValue))
    }
}
