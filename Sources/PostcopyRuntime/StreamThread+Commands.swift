internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

// What the stream orders: each step is applied to the phases before it changes memory.
extension StreamThread {
    func advance(_ event: DestinationEvent) throws(StreamTrouble) {
        try leave(state.advance(event, at: itemPosition))
    }

    /// Leaves an action to the control thread; after one that ends the migration nothing more is read.
    func leave(_ action: DestinationAction) throws(StreamTrouble) {
        if action != .none { state.control.post(.perform(action)) }
        if state.currentPhase.isTrouble { throw .over }
    }

    func advise(summary: UInt64, targetPageBytes: UInt64) throws(StreamTrouble) {
        let ours = state.geometries.reduce(0) { $0 | $1.hostPage.bytes }
        guard summary == ours, targetPageBytes == PageSize.target.bytes else {
            throw .refused(
                "page sizes differ: the source has \(summary) and \(targetPageBytes), this side "
                    + "\(ours) and \(PageSize.target.bytes); give both the same --page-size")
        }
        let action = state.advance(.advise, at: itemPosition)
        guard action == .prepareMemory else { return try leave(action) }
        for ram in state.blocks {
            ram.suspendLock()
            do {
                try ram.drop(
                    from: RAMOffset(rawValue: 0), lengthBytes: ram.geometry.lengthBytes)
            } catch {
                throw .refused("emptying RAM block '\(ram.geometry.name)': \(error)")
            }
        }
    }

    /// Before the first page is dropped: the kernel would fill the hole with a huge page around it.
    /// Until then huge pages make the precopy's pages cheaper.
    /// Source: `postcopy_ram_prepare_discard` of QEMU.
    private mutating func avoidHugePages() {
        guard stage == .filling else { return }
        stage = .discarding
        let hugeBytes = GuestRAM.hugeBytes(of: state.blocks)
        state.counters.hugeBytesAtSwitch.withLock { $0 = hugeBytes }
        for ram in state.blocks { ram.avoidHugePages() }
    }

    /// Takes the received bits back; the memory goes at LISTEN.
    mutating func takeBack(_ discard: DiscardRanges) throws(StreamTrouble) {
        let action = state.advance(
            .discard(ranges: UInt16(clamping: discard.ranges.count)), at: itemPosition)
        guard action == .dropRanges else { return try leave(action) }
        avoidHugePages()
        let geometry = state.geometries[discard.block.rawValue]
        for range in discard.ranges {
            let first = geometry.hostPage(containing: range.start)
            let count = Int(range.lengthBytes >> UInt64(geometry.hostPage.shift))
            let pages = first..<HostPageIndex(rawValue: first.rawValue + count)
            let gone = state.received[discard.block.rawValue].remove(pages)
            state.counters.missingPages.add(gone, ordering: .relaxed)
        }
    }

    /// Drops what was not received, whether it was discarded or never came: a page that came made
    /// its neighbours present where the kernel gave a huge page.
    private func dropMissing() throws(StreamTrouble) {
        for (ram, received) in zip(state.blocks, state.received) {
            var page = HostPageIndex(rawValue: 0)
            while let missing = received.nextMissing(from: page) {
                page = missing.upperBound
                let start = ram.geometry.offset(of: missing.lowerBound)
                let lengthBytes = ram.geometry.offset(of: page).rawValue - start.rawValue
                do { try ram.drop(from: start, lengthBytes: lengthBytes) } catch {
                    throw .refused("discarding in RAM block '\(ram.geometry.name)': \(error)")
                }
            }
        }
    }

    /// LISTEN: from here on missing pages fault, and this thread goes on reading pages while the
    /// control thread loads the devices.
    mutating func unpack() throws(StreamTrouble) {
        let parts: DevicePackage.Parts
        do { parts = try DevicePackage.parse(package.span, at: packagePosition) } catch {
            throw .wire(error)
        }
        let action = state.advance(.listen, at: packagePosition)
        guard action == .startListening else { return try leave(action) }
        avoidHugePages()
        try dropMissing()
        for ram in state.blocks {
            do { try state.uffd.register(ram) } catch {
                throw .refused("registering RAM block '\(ram.geometry.name)': \(error)")
            }
        }
        // Whoever failed meanwhile ended only the faults of blocks that were registered by then.
        guard !state.currentPhase.hasFailed else { return state.endFaults() }
        stage = .faulting
        if missingPages == 0 { try advance(.allPagesPlaced) }
        let devices = Array(package[parts.devices])
        package = []
        state.control.post(.devices(devices, pings: parts.pings))
    }
}
