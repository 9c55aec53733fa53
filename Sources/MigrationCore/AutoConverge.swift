/// How strongly the vCPUs are slowed down so that a precopy converges.
///
/// Source: `migration_trigger_throttle` and `mig_throttle_guest_down` of QEMU (`migration/ram.c`),
/// called from `migration_bitmap_sync`; without `cpu-throttle-tailslow`.
public struct AutoConverge: Equatable, Sendable {
    /// In percent of a vCPU's time. QEMU: `cpu-throttle-initial`, `cpu-throttle-increment`,
    /// `max-cpu-throttle`.
    public struct Settings: Equatable, Sendable {
        /// The first throttle, 1 to 99.
        public let initialPercent: UInt64
        /// What each further one adds, 1 to 99.
        public let incrementPercent: UInt64
        /// The most, up to 99.
        public let maxPercent: UInt64

        /// 20 %, then 10 % more each time, up to 99 %: QEMU's.
        public static let usual = Settings(trusting: 20, 10, 99)

        /// - Throws: for a percentage outside 1 to 99, and for a largest one below the initial one.
        public init(
            initialPercent: UInt64 = 20, incrementPercent: UInt64 = 10, maxPercent: UInt64 = 99
        ) throws(PrecopySettingsError) {
            guard (1...99).contains(initialPercent) else {
                throw .throttleInitial(percent: initialPercent)
            }
            guard (1...99).contains(incrementPercent) else {
                throw .throttleIncrement(percent: incrementPercent)
            }
            guard maxPercent >= initialPercent, maxPercent <= 99 else {
                throw .throttleMax(percent: maxPercent, initial: initialPercent)
            }
            self.init(trusting: initialPercent, incrementPercent, maxPercent)
        }

        private init(trusting initial: UInt64, _ increment: UInt64, _ max: UInt64) {
            initialPercent = initial
            incrementPercent = increment
            maxPercent = max
        }
    }

    /// One second, as in `migration_bitmap_sync`: shorter periods say little, and are joined.
    public static let periodNanosecondsMin: UInt64 = 1_000_000_000

    private let settings: Settings
    private var periodStart: UInt64
    private var dirtiedBytes: UInt64 = 0
    private var sentBytes: UInt64 = 0
    /// Periods that dirtied too much, since the throttle last rose.
    private var highCount = 0

    /// What the vCPUs are slowed down by now.
    public private(set) var percent: UInt64 = 0

    /// - Parameter instant: when the first period begins.
    public init(settings: Settings = .usual, at instant: UInt64) {
        self.settings = settings
        periodStart = instant
    }

    /// Notes what was dirtied and what was sent since the last call, at a sync.
    ///
    /// A period counts when it dirtied more than half of what it sent (QEMU's
    /// `throttle-trigger-threshold` of 50 %). The second that counts raises the throttle; quiet ones
    /// between the two do not matter.
    /// - Returns: the throttle when it rises.
    public mutating func note(
        dirtiedBytes dirtied: UInt64, sentBytes sent: UInt64, at instant: UInt64
    ) -> UInt64? {
        dirtiedBytes = dirtiedBytes.adding(dirtied)
        sentBytes = sentBytes.adding(sent)
        guard instant > periodStart, instant - periodStart > AutoConverge.periodNanosecondsMin
        else {
            return nil
        }
        let isHigh = dirtiedBytes > sentBytes / 2
        periodStart = instant
        dirtiedBytes = 0
        sentBytes = 0
        guard isHigh else { return nil }
        highCount += 1
        guard highCount == 2 else { return nil }
        highCount = 0
        guard percent < settings.maxPercent else { return nil }
        percent =
            percent == 0
            ? settings.initialPercent
            : min(percent + settings.incrementPercent, settings.maxPercent)
        return percent
    }
}
