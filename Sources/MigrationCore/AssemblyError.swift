public import PageModel

/// Why a target page cannot join a host page. Each is the peer's bug.
public enum AssemblyError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No block has this index.
    case unknownBlock(BlockIndex, offset: RAMOffset)
    /// Target pages begin at multiples of 4,096 bytes.
    case misaligned(block: BlockIndex, offset: RAMOffset)
    /// The page lies behind the end of its block.
    case outsideBlock(block: BlockIndex, offset: RAMOffset, lengthBytes: UInt64)
    /// Another host page is unfinished on this channel ("Non-same host page" in QEMU).
    case otherHostPage(
        block: BlockIndex, offset: RAMOffset, unfinishedBlock: BlockIndex,
        unfinishedOffset: RAMOffset)
    /// The target page is in the unfinished host page already.
    case duplicate(block: BlockIndex, offset: RAMOffset, hostPageOffset: RAMOffset)

    public var description: String {
        switch self {
        case .unknownBlock(let block, let offset):
            "a page at offset \(offset.rawValue) names block \(block.rawValue), which is unknown"
        case .misaligned(let block, let offset):
            "block \(block.rawValue): offset \(offset.rawValue) is no multiple of 4096"
        case .outsideBlock(let block, let offset, let length):
            "block \(block.rawValue): offset \(offset.rawValue) is outside its \(length) bytes"
        case .otherHostPage(let block, let offset, let unfinishedBlock, let unfinishedOffset):
            "block \(block.rawValue): offset \(offset.rawValue) came while the host page at "
                + "\(unfinishedOffset.rawValue) of block \(unfinishedBlock.rawValue) is unfinished"
        case .duplicate(let block, let offset, let hostPageOffset):
            "block \(block.rawValue): offset \(offset.rawValue) came twice in the host page at "
                + "\(hostPageOffset.rawValue)"
        }
    }
}
