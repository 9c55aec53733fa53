internal import LinuxKernel
internal import PageModel
internal import StreamWire

/// The guest's RAM blocks as both sides list them, and which of them are listed only.
struct BlockList: Sendable {
    private let blocks: [GuestRAM]
    /// Whether memory that both sides share is listed and never sent.
    let ignoresShared: Bool

    init(of guest: any Guest, _ options: MigrationOptions) {
        blocks = guest.memory
        ignoresShared = options.ignoresShared
    }

    /// Source: `migrate_ram_is_ignored` (`migration/ram.c`).
    func isIgnored(_ ram: GuestRAM) -> Bool { ignoresShared && ram.isShared }

    /// The blocks whose pages are sent: everything but the list is about these.
    var sent: [(index: BlockIndex, ram: GuestRAM)] {
        blocks.enumerated().compactMap { index, ram in
            isIgnored(ram) ? nil : (BlockIndex(rawValue: index), ram)
        }
    }

    var ignored: Set<BlockIndex> {
        Set(blocks.indices.filter { isIgnored(blocks[$0]) }.map(BlockIndex.init(rawValue:)))
    }

    /// The blocks as they are now.
    var listed: [ListedBlock] { listed(usedBytes: blocks.map(\.usedBytes)) }

    /// The blocks with these used lengths.
    func listed(usedBytes: [UInt64]) -> [ListedBlock] {
        zip(blocks, usedBytes).map { ram, usedBytes in
            ListedBlock(
                ram.geometry, usedBytes: usedBytes, isResizable: ram.isResizable,
                isIgnored: isIgnored(ram), guestPhysicalAddress: ram.guestPhysicalAddress)
        }
    }

    /// What became of each block's length since the last call.
    func takeLengthChanges() -> [LengthChange] { blocks.map { $0.takeLengthChange() } }

    /// What ADVISE says of the pages that will be sent.
    ///
    /// Source: `ram_pagesize_summary` (`migration/ram.c`).
    var pageSizeSummary: UInt64 { sent.reduce(0) { $0 | $1.ram.geometry.hostPage.bytes } }

    var targetPageCount: Int { sent.reduce(0) { $0 + $1.ram.usedTargetPages } }
    var hostPageCount: Int { sent.reduce(0) { $0 + $1.ram.usedHostPages } }

    /// Keeps the lengths as they are while a migration counts on them.
    func freezeLengths() { for (_, ram) in sent { ram.freezeLength() } }

    func thawLengths() { for (_, ram) in sent { ram.thawLength() } }
}

extension GuestRAM {
    var usedTargetPages: Int { PageSize.target.count(in: usedBytes) }
    var usedHostPages: Int { geometry.hostPage.count(in: usedBytes) }
}

extension PageSize {
    /// How many whole pages `bytes` are.
    func count(in bytes: UInt64) -> Int { Int(bytes >> UInt64(shift)) }
}
