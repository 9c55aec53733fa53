/// How fast pages leave and how fast the guest dirties them.
///
/// Fed with totals and instants; one that lies below the latest counts as the latest. Rates are whole
/// numbers per second, rounded down, and stop at the largest number instead of overflowing.
///
/// Source: `migration_update_counters` and `migration_update_rates` of QEMU (`migration/migration.c`,
/// `migration/ram.c`). QEMU takes the last window alone, and counts the time for which a sync holds
/// the sender up, so that its bandwidth sinks as rounds get short.
public struct TransferRates: Equatable, Sendable {
    /// 100 ms, QEMU's `BUFFER_DELAY`: long against one write, short against what a limit or a busy
    /// path does to the rate.
    public static let windowNanoseconds: UInt64 = 100_000_000

    private struct Counts: Equatable, Sendable {
        var bytes: UInt64 = 0
        var pages: UInt64 = 0

        func perSecond(in nanoseconds: UInt64) -> Counts {
            Counts(
                bytes: bytes.times(nanosecondsPerSecond, over: nanoseconds),
                pages: pages.times(nanosecondsPerSecond, over: nanoseconds))
        }

        /// Whether more than half of the pages were no zero pages.
        func isMostlyContent(_ pageSizeBytes: UInt64) -> Bool {
            pages > 0 && bytes > pages.times(pageSizeBytes, over: 2)
        }

        func mean(with other: Counts) -> Counts {
            Counts(bytes: bytes.mean(with: other.bytes), pages: pages.mean(with: other.pages))
        }
    }

    private let pageSizeBytes: UInt64
    /// The totals last heard of, and the instant from which sending is timed.
    private var sent = Counts()
    private var sentAt: UInt64
    /// Sent in the window that is open, and for how long it has been.
    private var window = Counts()
    private var windowAge: UInt64 = 0
    /// Of the windows that are over; `nil` before the first is.
    private var smoothed: Counts?
    /// Of those that were mostly content; `nil` before the first.
    private var contentBytesPerSecond: UInt64?
    private var syncedAt: UInt64
    /// Found by syncs at the very instant of the one before: the next one counts them.
    private var uncountedPages: UInt64 = 0

    /// Target pages newly dirtied per second between the last two syncs; at the first sync, since the
    /// start. Not smoothed. (QEMU: `dirty-pages-rate`.)
    public private(set) var dirtyPagesPerSecond: UInt64 = 0

    /// - Parameter pageSizeBytes: of a target page.
    public init(pageSizeBytes: UInt64, at instant: UInt64) {
        self.pageSizeBytes = pageSizeBytes
        sentAt = instant
        syncedAt = instant
    }

    /// Notes what was sent so far, in all.
    public mutating func noteSent(bytes: UInt64, pages: UInt64, at instant: UInt64) {
        let total = Counts(bytes: max(sent.bytes, bytes), pages: max(sent.pages, pages))
        window.bytes += total.bytes - sent.bytes
        window.pages += total.pages - sent.pages
        sent = total
        let now = max(sentAt, instant)
        windowAge += now - sentAt
        sentAt = now
        guard windowAge >= TransferRates.windowNanoseconds else { return }
        let rate = window.perSecond(in: windowAge)
        smoothed = smoothed?.mean(with: rate) ?? rate
        if window.isMostlyContent(pageSizeBytes) {
            contentBytesPerSecond = contentBytesPerSecond?.mean(with: rate.bytes) ?? rate.bytes
        }
        window = Counts()
        windowAge = 0
    }

    /// Notes the end of a sync and how many target pages it found dirty that had been clean. The time
    /// since the last `noteSent` is not counted as sending.
    public mutating func noteSync(newlyDirtyPages: UInt64, at instant: UInt64) {
        sentAt = max(sentAt, instant)
        let pages = uncountedPages.adding(newlyDirtyPages)
        guard instant > syncedAt else {
            uncountedPages = pages
            return
        }
        dirtyPagesPerSecond = pages.times(nanosecondsPerSecond, over: instant - syncedAt)
        uncountedPages = 0
        syncedAt = instant
    }

    /// Bytes sent per second while sending was possible: the mean of the last window that is over and
    /// of this number before it, so that a window counts half as much with each that follows. Until
    /// the first window is over, of the time so far; zero until something was sent.
    public var bytesPerSecond: UInt64 { (smoothed ?? window.perSecond(in: windowAge)).bytes }

    /// Target pages sent per second, zero pages included; otherwise like `bytesPerSecond`. (QEMU:
    /// `pages-per-second`.)
    public var pagesPerSecond: UInt64 { (smoothed ?? window.perSecond(in: windowAge)).pages }

    /// What is left is measured by this, in bytes of guest memory: the bandwidth while most pages were
    /// content, since zero pages pass in a few bytes and say nothing of what a page takes that is
    /// none. While nothing but zero pages was ever sent, their memory.
    public var memoryBytesPerSecond: UInt64 {
        let open = window.isMostlyContent(pageSizeBytes) ? window.perSecond(in: windowAge).bytes : 0
        return contentBytesPerSecond
            ?? (open > 0 ? open : pagesPerSecond.times(pageSizeBytes, over: 1))
    }

    /// `dirtyPagesPerSecond` in bytes of guest memory.
    public var dirtyBytesPerSecond: UInt64 { dirtyPagesPerSecond.times(pageSizeBytes, over: 1) }

    /// How long the guest would stand still if it stopped now and the rest were sent; `nil` while no
    /// bandwidth is known. (QEMU: `expected-downtime`.)
    public func expectedDowntimeNanoseconds(remainingBytes: UInt64) -> UInt64? {
        if remainingBytes == 0 { return 0 }
        let bandwidth = memoryBytesPerSecond
        guard bandwidth > 0 else { return nil }
        return remainingBytes.times(nanosecondsPerSecond, over: bandwidth)
    }
}
