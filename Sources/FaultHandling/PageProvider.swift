public import PageModel

/// Where the content of missing pages comes from: a file, an object store, a compressed snapshot.
public protocol PageProvider: Sendable {
    /// Fills all of `bytes`, whole host pages, with the content from `offset` of a block on; or answers
    /// that it is zero, and then what is in `bytes` does not matter.
    ///
    /// Called by the handler's threads, several at once, and never twice at once for the same page. It
    /// may wait, for as long as whoever touched the page can: other pages are served meanwhile, by
    /// `FaultHandlerOptions.workers` threads. It must not touch the memory that is served, nor stop the
    /// handler.
    /// - Parameters:
    ///   - bytes: one host page that somebody waits for, or in the background up to
    ///     `FaultHandlerOptions.backgroundBytes` of them.
    ///   - block: the place in the list of RAM blocks, or of the other process's regions, that the
    ///     handler was made with.
    /// - Throws: when the content cannot be had now; see `FaultHandlerOptions.attempts`.
    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent
}

/// What a provider has of pages.
public enum PageContent: Hashable, Sendable {
    /// What was written into the bytes.
    case bytes
    /// All of them are zero: they are placed without being copied.
    case zeros
}

/// Why a provider has no content of pages, in words for whoever runs the program.
public struct PageProviderError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String

    /// Why, in one line.
    public init(_ description: String) { self.description = description }
}
