internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

// Blocks that the guest resizes while it runs. One thread at a time: the one that writes the stream.
extension SourceState {
    /// Owes all that the guest uses now, before anything was sent, and answers the list of it.
    func beginList() -> [ListedBlock] {
        let usedBytes = takeLengths { change in 0..<change.usedBytes }
        listedBytes.withLock { $0 = usedBytes }
        return list.listed(usedBytes: usedBytes)
    }

    /// Takes note of what the guest resized since the last call: what a block gained is dirty from
    /// here on, and what is beyond its length is not. Where that is news for the destination, answers
    /// a part of the section `ram` that lists all blocks again, to be written between two others
    /// before any page that is gained.
    ///
    /// Called behind every sync of the dirty bitmaps, because a sync may mark what was lost; at last
    /// with the guest stopped and the lengths frozen, before the discards.
    ///
    /// Source: `ram_load_precopy` takes a list at any place; QEMU's own source
    /// (`ram_mig_ram_block_resized`) cancels instead.
    func takeResizes() -> [UInt8]? {
        let usedBytes = takeLengths { change in change.gainedFromBytes..<change.usedBytes }
        let isNews = listedBytes.withLock { listed in
            defer { listed = usedBytes }
            return listed != usedBytes
        }
        guard isNews else { return nil }
        var bytes: [UInt8] = []
        StreamEncoder.appendSectionResumed(id: ramSection, last: false, to: &bytes)
        append(list.listed(usedBytes: usedBytes), to: &bytes)
        StreamEncoder.appendSectionEnd(id: ramSection, to: &bytes)
        return bytes
    }

    func append(_ blocks: [ListedBlock], to bytes: inout [UInt8]) {
        StreamEncoder.appendBlockList(
            blocks, ignoresShared: list.ignoresShared, basePage: HostMemory.pageSize, to: &bytes)
    }

    /// Answers the lengths that the dirty bitmaps agree with from here on; the guest may be further.
    private func takeLengths(gaining: (LengthChange) -> Range<UInt64>) -> [UInt64] {
        let changes = list.takeLengthChanges()
        for (index, ram) in list.sent where ram.isResizable {
            let gained = gaining(changes[index.rawValue])
            let dirty = dirty[index.rawValue]
            let first = PageSize.target.count(in: gained.lowerBound)
            let end = PageSize.target.count(in: gained.upperBound)
            precopy?.noteLength(of: index, gained: first, end: end)
            let new = dirty.insert(first..<end)
            let lost = dirty.remove(end..<dirty.block.targetPageCount)
            owed.remaining.add(new - lost, ordering: .relaxed)
        }
        return changes.map(\.usedBytes)
    }
}
