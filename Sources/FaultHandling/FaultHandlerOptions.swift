public import LinuxKernel
public import PageModel

/// How a `FaultHandler` serves.
public struct FaultHandlerOptions: Sendable {
    /// Threads that read and place pages that somebody waits for: a page that is slow to read does not
    /// hold up another, as long as fewer are slow at once. 1 to 64, each with room for a host page.
    public var workers = 2

    /// How often a page is asked for that the provider has no content of, or that the kernel has no
    /// memory for just now, 1 to 100: three outlast what is over in a moment, and somebody waits. A
    /// provider that tries again itself sets 1.
    public var attempts = 3

    /// The pause before the second attempt, at most a second; each further one is four times as long, up to
    /// a second.
    public var pauseNanoseconds: UInt64 = 2_000_000

    /// What the background reads at once of pages that are smaller, 4 KiB to 1 MiB: a file is read at
    /// half its speed page by page, and whoever needs one of these pages meanwhile waits for all of them.
    public var backgroundBytes = 128 << 10

    /// Threads that read and place in the background, 1 to 16: one reads a file at full speed; storage that
    /// is far away wants several readings under way at once.
    public var backgroundThreads = 1

    /// For memory of this process: which faults are reported; see `FaultOrigin`. Memory that system calls
    /// or KVM touch needs those of the kernel.
    public var faultOrigin = FaultOrigin.userAndKernel

    /// For memory of this process: whether pages that are given up while they are served
    /// (`GuestRAM.drop`, `madvise`) read as zeros from then on. Otherwise they have the provider's content
    /// again when they are next touched, so that served memory can be a cache.
    ///
    /// `MADV_DONTNEED` of shared memory gives up nothing that is there, but the kernel tells of it all the
    /// same: what of it was missing then reads as zeros. Shared memory is given up by `MADV_REMOVE`.
    public var removedPagesAreZero = true

    /// What becomes of a page that the provider has no content of, where the kernel cannot make it one
    /// whose content is lost (before Linux 6.6).
    public var unservablePage = UnservablePage.waits

    /// What becomes of pages that are still missing when the handler stops, or ends by itself; `nil`:
    /// `.zeros` in memory of this process, `.lost` in another's.
    public var missingAtStop: MissingAtStop?

    /// Told of each page that could not be served, on a thread of the handler that serves nobody else
    /// meanwhile. It must not stop the handler.
    public var pageLost: @Sendable (LostPage) -> Void = { _ in }

    /// Told once, on a thread of the handler, when it ends by itself: nobody is served any more. It must not
    /// stop the handler itself, but may have another thread do so.
    public var ended: @Sendable (FaultHandlerError) -> Void = { _ in }

    /// What suits a local file.
    public init() {}

    /// A thread for each of the pages that can be slow at once; each has room for a host page.
    static let workersMax = 64

    func check() throws(FaultHandlerError) {
        guard (1...Self.workersMax).contains(workers) else {
            throw .option("workers", allowed: "1 to \(Self.workersMax)")
        }
        guard (1...100).contains(attempts) else { throw .option("attempts", allowed: "1 to 100") }
        guard pauseNanoseconds <= 1_000_000_000 else {
            throw .option("pauseNanoseconds", allowed: "at most a second")
        }
        guard (1...16).contains(backgroundThreads) else {
            throw .option("backgroundThreads", allowed: "1 to 16")
        }
        guard (4_096...1 << 20).contains(backgroundBytes) else {
            throw .option("backgroundBytes", allowed: "4096 to 1048576")
        }
    }
}

/// What becomes of a page that nobody has the content of, where it cannot be said to be lost.
public enum UnservablePage: Hashable, Sendable {
    /// Whoever waits for it waits until the handler stops: whoever is told of it decides.
    case waits
    /// It reads as zeros, which its user cannot tell from its content.
    case zeros
}

/// What becomes of pages that are still missing when a handler stops.
public enum MissingAtStop: Hashable, Sendable {
    /// They read as zeros: for memory whose users are about to end, or a handler that has placed all.
    case zeros
    /// Whoever waits for one, or touches it later, gets a `SIGBUS`, as of memory that the hardware lost:
    /// zeros must not be taken for content.
    ///
    /// Before Linux 6.6 nothing can say so. Memory of this process has zeros there. Another's is left
    /// registered: whoever waits for a missing page, touches one or gives pages up waits for as long as
    /// that process has its own copy of the userfaultfd; without one it finds zeros once this process has
    /// closed its own. `FaultReport.missingAtStop` says what became of them.
    case lost
}

/// A page that could not be served.
public struct LostPage: Equatable, Sendable {
    /// What became of a page that could not be had.
    public enum Outcome: Hashable, Sendable {
        /// Whoever waits for it, or touches it later, gets `SIGBUS`.
        case poisoned
        /// As the options say, where the kernel has no such thing.
        case zeros
        /// Whoever touches it waits.
        case waits
    }

    /// `nil` for a fault outside of all memory that is served.
    public let page: HostPage?
    /// Where it lies, in the process whose memory it is.
    public let address: HostAddress
    /// The provider's last error, or the kernel's.
    public let problem: String
    /// What its waiters meet.
    public let outcome: Outcome
}
