public import PageModel

/// Writes the discards of one block after the other through one buffer of a fixed size: those of a
/// guest of a terabyte take tens of megabytes.
///
/// Layout: see `Command`; ranges of one block in ascending order, at most 12 in a command.
/// Source: `postcopy_send_discard_bm_ram` (`migration/ram.c`), `postcopy_discard_send_range`
/// (`migration/postcopy-ram.c`).
public struct DiscardEncoder: ~Copyable, Sendable {
    /// The ranges that QEMU puts into one discard: a receiver of its size suffices for ours.
    ///
    /// Source: `MAX_DISCARDS_PER_COMMAND` (`migration/postcopy-ram.c`).
    public static let rangesMax = 12

    /// What a sink gets at once, all but the last time, to within a command: enough that a system
    /// call costs less than its copy, and little enough to stay in a core's own cache.
    public static let flushBytes = 64 << 10

    private static let commandBytesMax = 5 + 3 + 255 + rangesMax * DiscardRange.wireBytes

    /// All that was encoded, also what no sink was given yet.
    public private(set) var totals = DiscardTotals()
    private var buffer: [UInt8]
    private var usedBytes = 0
    private var bounds: [Int]

    public init() {
        buffer = Array(repeating: 0, count: Self.flushBytes + Self.commandBytesMax)
        bounds = Array(repeating: 0, count: 2 * DirtyRuns.boundsMin)
    }

    /// Encodes the dirty runs of a block, giving `sink` what is ready whenever the buffer is full; a
    /// block without any sends nothing. The rest comes with a later block or with `finish`.
    ///
    /// Nobody may change `dirty` meanwhile.
    /// - Throws: what `sink` throws; what it was given is then gone.
    public mutating func encode<Failure: Error>(
        _ dirty: DirtyBitmap, to sink: (Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
        let name = dirty.block.name
        let fullHead = StreamEncoder.discardHead(of: name, rangeCount: Self.rangesMax)
        var runs = DirtyRuns(of: dirty)
        var rangeCount = 0
        while true {
            let found = runs.next(into: &bounds)
            if found == 0 { break }
            var taken = 0
            while taken < found {
                let end = min(found, taken + 2 * (Self.rangesMax - rangeCount))
                let start = usedBytes + fullHead.count + rangeCount * DiscardRange.wireBytes
                totals.targetPages += buffer.storeRanges(bounds, taken..<end, at: start)
                rangeCount += (end - taken) / 2
                taken = end
                guard rangeCount == Self.rangesMax else { continue }
                try endCommand(fullHead, rangeCount: rangeCount, sink)
                rangeCount = 0
            }
        }
        guard rangeCount > 0 else { return }
        let head = StreamEncoder.discardHead(of: name, rangeCount: rangeCount)
        try endCommand(head, rangeCount: rangeCount, sink)
    }

    /// Gives `sink` what it was not given yet.
    public mutating func finish<Failure: Error>(
        to sink: (Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
        guard usedBytes > 0 else { return }
        let ready = 0..<usedBytes
        usedBytes = 0
        try sink(buffer.span.extracting(ready))
    }

    /// Puts `head` in front of the ranges that stand behind its place.
    private mutating func endCommand<Failure: Error>(
        _ head: [UInt8], rangeCount: Int, _ sink: (Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
        let commandBytes = head.count + rangeCount * DiscardRange.wireBytes
        buffer.store(head, at: usedBytes)
        usedBytes += commandBytes
        totals.ranges += rangeCount
        totals.commands += 1
        totals.bytes += commandBytes
        if usedBytes >= Self.flushBytes { try finish(to: sink) }
    }
}

extension [UInt8] {
    /// Overwrites the bytes from `start` by the ranges of the runs whose bounds stand at `indices`;
    /// answers how many target pages those are.
    fileprivate mutating func storeRanges(
        _ bounds: [Int], _ indices: Range<Int>, at start: Int
    ) -> Int {
        let shift = UInt64(PageSize.target.shift)
        var target = mutableSpan
        var at = start
        var pageCount = 0
        for index in stride(from: indices.lowerBound, to: indices.upperBound, by: 2) {
            let pages = bounds[index + 1] - bounds[index]
            target.storeBigEndian(UInt64(bounds[index]) << shift, at: at)
            target.storeBigEndian(UInt64(pages) << shift, at: at + 8)
            pageCount += pages
            at += DiscardRange.wireBytes
        }
        return pageCount
    }

    fileprivate mutating func store(_ bytes: [UInt8], at start: Int) {
        var target = mutableSpan
        for index in bytes.indices { target[start + index] = bytes[index] }
    }
}
