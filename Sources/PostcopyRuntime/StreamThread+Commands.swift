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
        let ours = state.list.pageSizeSummary
        guard targetPageBytes == PageSize.target.bytes else {
            throw .refused(
                "page sizes differ: the source counts in \(targetPageBytes) bytes, this side in "
                    + "\(PageSize.target.bytes)")
        }
        guard summary == ours else {
            throw .refused(
                "page sizes differ: the source has pages of \(Self.sizes(summary)) bytes, this side "
                    + "of \(Self.sizes(ours)); give both the same --page-size")
        }
        let action = state.advance(.advise, at: itemPosition)
        guard action == .prepareMemory else { return try leave(action) }
        try emptyMemory()
    }

    /// The sizes that a summary was made of.
    private static func sizes(_ summary: UInt64) -> String {
        let bits = (0..<UInt64(64)).filter { summary & (1 << $0) != 0 }
        return bits.isEmpty ? "no" : bits.map { "\(UInt64(1) << $0)" }.joined(separator: " and ")
    }

    /// Takes the received bits back; the memory goes at LISTEN.
    mutating func takeBack(_ discard: DiscardRanges) throws(StreamTrouble) {
        let action = state.advance(
            .discard(ranges: UInt16(clamping: discard.ranges.count)), at: itemPosition)
        guard action == .dropRanges else { return try leave(action) }
        let geometry = state.geometries[discard.block.rawValue]
        for range in discard.ranges {
            let first = geometry.hostPage(containing: range.start)
            let count = Int(range.lengthBytes >> UInt64(geometry.hostPage.shift))
            let pages = first..<HostPageIndex(rawValue: first.rawValue + count)
            let gone = state.demand.received[discard.block.rawValue].remove(pages)
            state.demand.missing.add(gone, ordering: .relaxed)
        }
    }

    /// Takes more of what follows a precopy that completed.
    mutating func takeTail(
        _ bytes: Span<UInt8>, _ range: Range<Int>, at position: UInt64
    ) throws(StreamTrouble) {
        guard !hasEnded else {
            throw .refused(
                "the source broke the protocol: more follows the end at byte \(position)")
        }
        var tail = self.tail.take() ?? DeviceTail(at: position)
        do throws(WireError) { try tail.append(bytes, range) } catch { throw .wire(error) }
        self.tail = tail
        if let parts = tail.parts { try complete(tail.bytes[parts.devices]) }
    }

    /// The guest came whole: what was never sent of its memory is zero.
    ///
    /// Source: `process_incoming_migration_bh` (`migration/migration.c`).
    private mutating func complete(_ devices: ArraySlice<UInt8>) throws(StreamTrouble) {
        guard state.currentPhase == .advised(blocksAgreed: true) else {
            throw .refused(
                "the source broke the protocol: it discarded pages and ended without sending them")
        }
        guard state.advance(.listen, at: itemPosition) == .startListening else { throw .over }
        state.ramSection.store(decoder.ramSection ?? 0, ordering: .releasing)
        for (index, ram) in state.list.sent {
            let all =
                HostPageIndex(rawValue: 0)..<HostPageIndex(rawValue: ram.usedHostPages)
            state.demand.received[index.rawValue].insert(all)
        }
        state.demand.missing.store(0, ordering: .relaxed)
        // No page is missing here nor anywhere else, and none will be placed.
        state.releaseClients()
        passOnReceived()
        hasEnded = true
        try advance(.allPagesPlaced)
        try advance(.endOfStream)
        state.control.post(.devices(Array(devices), pings: []))
    }

    /// From here on a source of ours is never silent for long.
    func expectHeartbeats() {
        guard state.isSourceOurs else { return }
        ChannelTuning.expectHeartbeats(link.main.socket, state.options)
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
        state.ramSection.store(decoder.ramSection ?? 0, ordering: .releasing)
        expectHeartbeats()
        try dropMissing()
        for (_, ram) in state.list.sent {
            do { try state.uffd.register(ram) } catch {
                throw .refused("registering RAM block '\(ram.geometry.name)': \(error)")
            }
        }
        // Whoever failed meanwhile ended only the faults of blocks that were registered by then.
        guard !state.currentPhase.hasFailed else { return state.endFaults() }
        stage = .faulting
        state.clients.areServed.store(true, ordering: .releasing)
        state.faultFlag.raise()
        passOnReceived()
        if missingPages == 0 { try advance(.allPagesPlaced) }
        let devices = Array(package[parts.devices])
        package = []
        state.control.post(.devices(devices, pings: parts.pings))
    }
}
