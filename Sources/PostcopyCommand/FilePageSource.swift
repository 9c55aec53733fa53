internal import Parking
internal import Postcopy

/// Pages from files that stay as they are.
struct FilePageSource: PageSource {
    let content: JoinedContent
    /// A machine that counts as handed on only for this.
    private let marked: ParkDirectory?

    /// - Throws: `Refusal` for a file that cannot be read.
    init(memoryFile path: String) throws {
        do {
            let file = try FilePages(whole: path)
            content = JoinedContent(
                .memoryFile, at: path, pages: file, lengths: [file.lengthBytes])
            marked = nil
        } catch { throw Refusal.environment("--memory-file: \(error)") }
    }

    /// The RAM blocks of a parked machine, which counts as handed on from now on: a client may run it.
    /// - Throws: `Refusal` for a machine that is not whole, or was handed on before.
    init(park path: String, again: Bool, servedAt socket: String) throws {
        do {
            let park = try ParkDirectory(opening: path)
            let pages = try ParkedPages(park)
            try park.noteHandedOn(to: "unix:\(socket)", again: again)
            content = JoinedContent(
                .park, at: path, pages: pages, lengths: park.blocks.map(\.usedBytes))
            marked = again ? nil : park
        } catch { throw Refusal.environment("\(error)") }
    }

    func end(hasServed: Bool) {
        if !hasServed { marked?.takeBackHandedOn() }
    }
}

/// The blocks of a parked machine, read from its files.
private struct ParkedPages: PageProvider {
    private let blocks: [FilePages]

    init(_ park: ParkDirectory) throws {
        blocks = try park.blockPaths.map { try FilePages(whole: $0) }
    }

    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        try blocks[block.rawValue].read(&bytes, at: offset, of: BlockIndex(rawValue: 0))
    }
}
