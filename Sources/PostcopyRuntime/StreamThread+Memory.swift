internal import LinuxKernel
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
            do {
                try ram.drop(
                    from: RAMOffset(rawValue: 0), lengthBytes: ram.geometry.lengthBytes)
            } catch {
                throw .refused("emptying RAM block '\(ram.geometry.name)': \(error)")
            }
        }
        state.counters.missingPages.store(state.totalHostPages, ordering: .relaxed)
    }

    /// Before the first page is dropped: the kernel would fill the hole with a huge page around it.
    /// Until then huge pages make the precopy's pages cheaper.
    /// Source: `postcopy_ram_prepare_discard` of QEMU.
    mutating func avoidHugePages() {
        guard stage == .filling else { return }
        stage = .discarding
        let blocks = state.list.sent.map(\.ram)
        let hugeBytes = GuestRAM.hugeBytes(of: blocks)
        state.counters.hugeBytesAtSwitch.withLock { $0 = hugeBytes }
        for ram in blocks { ram.avoidHugePages() }
    }

    /// Drops what was not received, whether it was discarded or never came: a page that came made
    /// its neighbours present where the kernel gave a huge page.
    func dropMissing() throws(StreamTrouble) {
        for (index, ram) in state.list.sent {
            let received = state.received[index.rawValue]
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
            missing += state.received[index.rawValue].remove(lost)
        }
        do { try ram.adoptLength(usedBytes) } catch { throw .refused(error.description) }
        state.counters.missingPages.add(missing, ordering: .relaxed)
    }
}
