/// How one wait of one thread for one missing page went, at the destination.
///
/// Instants are nanoseconds of the destination's `CLOCK_MONOTONIC`; 0 stands for what did not happen.
/// 64 bytes.
public struct WaitRecord: BitwiseCopyable, Hashable, Sendable {
    /// When the thread stopped: the kernel's word where `flags` say so, otherwise when it was read.
    public var began: UInt64 = 0
    /// When the fault thread read the event.
    public var read: UInt64 = 0
    /// When the page's request was first written; 0 where another thread had asked, the page was there,
    /// or the link was down all the while.
    public var requested: UInt64 = 0
    /// When the bytes that ended with the page were read from the urgent channel; 0 where it came
    /// otherwise.
    public var firstByte: UInt64 = 0
    /// When the kernel had the page, which wakes the thread; 0 where the wait ended otherwise, or before
    /// anybody had noted that.
    public var placed: UInt64 = 0
    /// When it ended: `placed` where there is that, or else when the thread went on or the migration
    /// ended.
    public var ended: UInt64 = 0
    /// The host page's index in its block.
    public var page: UInt64 = 0
    /// The kernel's id of the thread.
    public var thread: Int32 = 0
    /// The block's index in the list of the log.
    public var block: UInt16 = 0
    /// What else there is to say.
    public var flags: WaitFlags = []

    /// All zero.
    public init() {}
}

/// What a wait's record says beside its instants.
public struct WaitFlags: OptionSet, BitwiseCopyable, Hashable, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// `began` is the kernel's own time of the fault.
    public static let kernelTimed = WaitFlags(rawValue: 1)
    /// Somebody waited for the page already.
    public static let joined = WaitFlags(rawValue: 2)
    /// The page was there when the fault was read.
    public static let present = WaitFlags(rawValue: 4)
    /// It came on the urgent channel.
    public static let urgent = WaitFlags(rawValue: 8)
    /// The migration ended before the page came.
    public static let unfinished = WaitFlags(rawValue: 16)
    /// The thread went on to another page before it was noted that this one was placed: mostly the
    /// background had just done so, since the kernel wakes the thread before anybody can note the time.
    public static let moved = WaitFlags(rawValue: 32)
    /// It was asked for once more, on a later link.
    public static let requestedAgain = WaitFlags(rawValue: 64)
}

/// What the source did about one request.
///
/// Instants are nanoseconds of the source's `CLOCK_MONOTONIC`; 0 stands for what did not happen.
/// 40 bytes.
public struct ServiceRecord: BitwiseCopyable, Hashable, Sendable {
    /// When the bytes that held the request were read.
    public var received: UInt64 = 0
    /// When its page was taken up: claimed for sending, or found sent.
    public var begun: UInt64 = 0
    /// When the write that held its last byte returned; 0 where it had been sent already.
    public var written: UInt64 = 0
    /// The host page's index in its block.
    public var page: UInt64 = 0
    /// Requests that were answered before it of those read with it; 0 without an urgent channel, where
    /// they wait in a queue.
    public var ahead: UInt32 = 0
    /// The block's index in the list of the log.
    public var block: UInt16 = 0
    /// What else there is to say.
    public var flags: ServiceFlags = []

    /// All zero.
    public init() {}
}

/// What a service's record says beside its instants.
public struct ServiceFlags: OptionSet, BitwiseCopyable, Hashable, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// The background had claimed the page before the request's turn: it is on its way, or there.
    public static let alreadySent = ServiceFlags(rawValue: 1)
    /// There is no urgent channel: it waited for the background's write under way, and for the requests
    /// ahead of it.
    public static let behindBackground = ServiceFlags(rawValue: 2)
    /// The background was held to its rate limit when the request came.
    public static let rateLimited = ServiceFlags(rawValue: 4)
    /// It is the huge page that the background was sending in pieces.
    public static let hugePageInFlight = ServiceFlags(rawValue: 8)
    /// The page was not at this source yet: it comes from the host that the guest left.
    public static let relayed = ServiceFlags(rawValue: 16)
}

/// Host pages that were placed together at the destination, by either channel.
///
/// 24 bytes.
public struct PlacementRecord: BitwiseCopyable, Hashable, Sendable {
    /// Nanoseconds of the destination's `CLOCK_MONOTONIC`.
    public var at: UInt64 = 0
    /// The first host page's index in its block.
    public var page: UInt64 = 0
    /// How many.
    public var count: UInt32 = 0
    /// The block's index in the list of the log.
    public var block: UInt16 = 0
    /// 1 where the urgent channel brought them, 0 where the background did.
    public var isUrgent: UInt16 = 0

    /// All zero.
    public init() {}
}
