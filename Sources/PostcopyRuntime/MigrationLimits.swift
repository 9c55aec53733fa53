internal import LinuxKernel
internal import MigrationCore
internal import Synchronization

/// What a source may take of the link, and of its guest's time: at first what its options say.
public struct MigrationLimits: Equatable, Sendable {
    /// As `MigrationOptions.maxBandwidth`.
    public var maxBandwidth: UInt64?
    /// As `MigrationOptions.maxPostcopyBandwidth`.
    public var maxPostcopyBandwidth: UInt64?
    /// As `SwitchoverSettings.downtimeLimitNanoseconds`; `nil` also where there is no precopy.
    public var downtimeLimitNanoseconds: UInt64?

    /// No limits.
    public init() {}

    init(_ options: MigrationOptions) {
        maxBandwidth = options.maxBandwidth
        maxPostcopyBandwidth = options.maxPostcopyBandwidth
        downtimeLimitNanoseconds = options.precopy?.switchover.downtimeLimitNanoseconds
    }
}

/// The limits that are in force, for the threads that send; any thread changes them.
///
/// Its lock is held for a look or a change. Whoever answers a fault takes none: requested pages are not
/// held back, and are counted by an atomic (`PacedSending.noteUrgent`).
final class LimitsInForce: Sendable {
    private struct State {
        var limits: MigrationLimits
        /// When a precopy ends; `nil` without one.
        var switchover: SwitchoverSettings?
        /// Whether the guest has moved.
        var isPostcopy = false

        var bandwidth: UInt64? {
            isPostcopy ? limits.maxPostcopyBandwidth : limits.maxBandwidth
        }
    }

    private let state: Mutex<State>
    /// Holds the main channel's pages to the bandwidth that is in force.
    let pace: PacedSending

    /// - Throws: when no descriptor is left.
    init(_ options: MigrationOptions) throws(Errno) {
        state = Mutex(
            State(limits: MigrationLimits(options), switchover: options.precopy?.switchover))
        pace = try PacedSending(bytesPerSecond: options.maxBandwidth)
    }

    var current: MigrationLimits { state.withLock { $0.limits } }

    /// When a precopy ends; `nil` without one.
    var switchover: SwitchoverSettings? { state.withLock { $0.switchover } }

    /// From here on the limit of postcopy holds.
    func enterPostcopy() {
        let mustWake = state.withLock { state in
            state.isPostcopy = true
            return pace.adopt(bytesPerSecond: state.bandwidth)
        }
        if mustWake { pace.interrupt() }
    }

    /// Changes the limits at once: a wait under way goes by the new one, and a precopy asks for its
    /// downtime limit at the end of its round.
    /// - Parameter change: called again where somebody else changed them meanwhile.
    /// - Throws: for limits that cannot be; then nothing has changed.
    func change(_ change: (inout MigrationLimits) -> Void) throws(ConfigurationError) {
        while true {
            let (old, switchover) = state.withLock { ($0.limits, $0.switchover) }
            var new = old
            change(&new)
            let settings = try Self.check(new, switchover)
            let mustWake: Bool? = state.withLock { state in
                guard state.limits == old else { return nil }
                state.limits = new
                state.switchover = settings
                return pace.adopt(bytesPerSecond: state.bandwidth)
            }
            guard let mustWake else { continue }
            if mustWake { pace.interrupt() }
            return
        }
    }

    private static func check(
        _ limits: MigrationLimits, _ switchover: SwitchoverSettings?
    ) throws(ConfigurationError) -> SwitchoverSettings? {
        guard limits.maxBandwidth != 0 else { throw .zeroBandwidth(option: "maxBandwidth") }
        guard limits.maxPostcopyBandwidth != 0 else {
            throw .zeroBandwidth(option: "maxPostcopyBandwidth")
        }
        guard let switchover else {
            guard limits.downtimeLimitNanoseconds == nil else { throw .noPrecopyToLimit }
            return nil
        }
        do throws(PrecopySettingsError) {
            return try SwitchoverSettings(
                downtimeLimitNanoseconds: limits.downtimeLimitNanoseconds,
                switchAfterNanoseconds: switchover.switchAfterNanoseconds,
                switchAfterRounds: switchover.switchAfterRounds,
                isAutomatic: switchover.isAutomatic)
        } catch { throw .precopy(error) }
    }
}
