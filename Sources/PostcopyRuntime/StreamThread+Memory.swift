internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

// What the stream says about the blocks as a whole.
extension StreamThread {
    /// ADVISE: every page is missing from here on, and the lengths are the source's to change.
    func emptyMemory() throws(StreamTrouble) {
        for (_, ram) in state.list.sent where ram.hasOtherUsers {
            throw .refused(
                "RAM block '\(ram.geometry.name)' is mapped from a file that somebody else maps too, "
                    + "and emptying it would empty it there: turn ignoresShared on at both sides, or "
                    + "give each side a file of its own")
        }
        state.list.freezeLengths()
        // Whoever failed meanwhile thawed them before.
        guard !state.currentPhase.hasFailed else { return state.endFaults() }
        for (_, ram) in state.list.sent {
            ram.suspendLock()
            // A huge page would make neighbours present that never came, and each one of which a part
            // is discarded would have to be split while the guest stands still: some 8 us.
            ram.avoidHugePages()
            do {
                try ram.drop(
                    from: RAMOffset(rawValue: 0), lengthBytes: ram.geometry.lengthBytes)
            } catch {
                throw .refused("emptying RAM block '\(ram.geometry.name)': \(error)")
            }
        }
        state.demand.missing.store(state.totalHostPages, ordering: .relaxed)
    }

    /// Before faults are reported, memory is simply written; the last copy counts.
    ///
    /// Zeros are written only where something stands: memory that was never touched is zero, and takes
    /// none. But hugetlb has no zero page that could be placed in such a hole.
    func store(
        _ bytes: Span<UInt8>, _ payload: Range<Int>?, at offset: RAMOffset, of block: BlockIndex
    ) {
        let ram = state.blocks[block.rawValue]
        let filled = filled[block.rawValue]
        let targetPage = Int(offset.rawValue >> UInt64(PageSize.target.shift))
        if let payload {
            ram.write(bytes.extracting(payload), at: offset)
            filled.insert(targetPage)
        } else if filled.contains(targetPage) || ram.backing == .hugetlb {
            ram.clearPage(at: offset)
        }
        let page = ram.geometry.hostPage(containing: offset)
        let next = HostPageIndex(rawValue: page.rawValue + 1)
        let new = state.demand.received[block.rawValue].insert(page..<next)
        state.demand.missing.subtract(new, ordering: .relaxed)
    }

    /// Drops what was not received, whether it was discarded or never came, so that it faults.
    func dropMissing() throws(StreamTrouble) {
        for (index, ram) in state.list.sent {
            let received = state.demand.received[index.rawValue]
            var runs: [Range<HostPageIndex>] = []
            var page = HostPageIndex(rawValue: 0)
            while let missing = received.nextMissing(from: page) {
                page = missing.upperBound
                runs.append(missing)
                if runs.count == Self.runsMax { try drop(&runs, of: ram) }
            }
            try drop(&runs, of: ram)
        }
    }

    /// From LISTEN on each page comes once: what is here by then may leave.
    func passOnReceived() {
        guard let passage = state.passage else { return }
        for (index, _) in state.list.sent {
            var page = HostPageIndex(rawValue: 0)
            while let run = state.demand.received[index.rawValue].nextPlaced(from: page) {
                passage.note(run, of: index)
                page = run.upperBound
            }
        }
    }

    /// Runs that are kept before they are dropped: what the kernel takes at once.
    private static let runsMax = 1_024

    private func drop(
        _ runs: inout [Range<HostPageIndex>], of ram: GuestRAM
    ) throws(StreamTrouble) {
        defer { runs.removeAll(keepingCapacity: true) }
        do { try ram.drop(runs) } catch {
            throw .refused("discarding in RAM block '\(ram.geometry.name)': \(error)")
        }
    }

    /// The end of a list. The first one names all blocks; each gives resizable ones their lengths.
    func takeBlockList(count: Int) throws(StreamTrouble) {
        guard count == state.blocks.count else {
            throw .refused(
                "the source has \(count) of this side's \(state.blocks.count) RAM blocks; give "
                    + "both guests the same memory")
        }
        for (index, ram) in state.list.sent where ram.isResizable {
            try resize(ram, index, to: decoder.usedBytes(of: index))
        }
    }

    /// Pages that a block gains are missing; those that it loses are neither missing nor received.
    private func resize(
        _ ram: GuestRAM, _ index: BlockIndex, to usedBytes: UInt64
    ) throws(StreamTrouble) {
        let (before, after) = (ram.usedHostPages, ram.geometry.hostPage.count(in: usedBytes))
        guard before != after else { return }
        var missing = after - before
        if after < before {
            let lost = HostPageIndex(rawValue: after)..<HostPageIndex(rawValue: before)
            missing += state.demand.received[index.rawValue].remove(lost)
        }
        do { try ram.adoptLength(usedBytes) } catch { throw .refused(error.description) }
        state.demand.missing.add(missing, ordering: .relaxed)
    }
}
