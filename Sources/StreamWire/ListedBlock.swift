public import PageModel

/// A RAM block as this side has it: what it writes into a block list, and what it holds the peer's
/// list against.
public struct ListedBlock: Equatable, Sendable {
    /// Its `lengthBytes` is the most that the block can have.
    public let geometry: BlockGeometry
    /// What of the block the guest uses: the length that a list names.
    public let usedBytes: UInt64
    /// Whether the peer's list may give the block another used length.
    public let isResizable: Bool
    /// Whether the block is listed and never sent (`x-ignore-shared`).
    public let isIgnored: Bool
    /// Where the guest sees the block; on the wire only with `x-ignore-shared`.
    public let guestPhysicalAddress: UInt64

    /// A block that is used whole, unless the parameters say otherwise.
    /// - Precondition: `usedBytes` is one host page or more, whole ones, and no more than the block
    ///   can have; what is ignored is shared memory, whose length is nobody's to change.
    public init(
        _ geometry: BlockGeometry, usedBytes: UInt64? = nil, isResizable: Bool = false,
        isIgnored: Bool = false, guestPhysicalAddress: UInt64 = 0
    ) {
        let usedBytes = usedBytes ?? geometry.lengthBytes
        precondition(usedBytes > 0 && usedBytes <= geometry.lengthBytes)
        precondition(geometry.hostPage.divides(usedBytes))
        precondition(!(isIgnored && isResizable), "shared memory is not resized")
        self.geometry = geometry
        self.usedBytes = usedBytes
        self.isResizable = isResizable
        self.isIgnored = isIgnored
        self.guestPhysicalAddress = guestPhysicalAddress
    }

    /// What is wrong with the length that the peer's list gives this block.
    func fault(ofLength theirs: UInt64) -> WireError.Kind? {
        let name = geometry.name
        guard isResizable else {
            guard theirs != usedBytes else { return nil }
            return .blockLengthMismatch(block: name, ours: usedBytes, theirs: theirs)
        }
        guard theirs <= geometry.lengthBytes else {
            return .blockTooLong(block: name, maximum: geometry.lengthBytes, theirs: theirs)
        }
        let page = geometry.hostPage
        guard theirs > 0, page.divides(theirs) else {
            return .blockNotWholePages(block: name, lengthBytes: theirs, pageBytes: page.bytes)
        }
        return nil
    }
}
