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
            do {
                try ram.drop(
                    from: RAMOffset(rawValue: 0), lengthBytes: ram.geometry.lengthBytes)
            } catch {
                throw .refused("emptying RAM block '\(ram.geometry.name)': \(error)")
            }
            ram.avoidHugePages()
        }
    }

    func drop(_ discard: DiscardRanges) throws(StreamTrouble) {
        let action = state.advance(
            .discard(ranges: UInt16(clamping: discard.ranges.count)), at: itemPosition)
        guard action == .dropRanges else { return try leave(action) }
        let ram = state.blocks[discard.block.rawValue]
        for range in discard.ranges {
            let first = ram.geometry.hostPage(containing: range.start)
            let count = Int(range.lengthBytes >> UInt64(ram.geometry.hostPage.shift))
            let pages = first..<HostPageIndex(rawValue: first.rawValue + count)
            let gone = state.received[discard.block.rawValue].remove(pages)
            state.counters.missingPages.add(gone, ordering: .relaxed)
            guard gone > 0 else { continue }
            do { try ram.drop(from: range.start, lengthBytes: range.lengthBytes) } catch {
                throw .refused("discarding in RAM block '\(ram.geometry.name)': \(error)")
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
        for ram in state.blocks {
            do { try state.uffd.register(ram) } catch {
                throw .refused("registering RAM block '\(ram.geometry.name)': \(error)")
            }
        }
        // Whoever failed meanwhile ended only the faults of blocks that were registered by then.
        guard !state.currentPhase.hasFailed else { return state.endFaults() }
        isListening = true
        if missingPages == 0 { try advance(.allPagesPlaced) }
        let devices = Array(package[parts.devices])
        package = []
        state.control.post(.devices(devices, pings: parts.pings))
    }
}
