internal import CPostcopy
internal import Postcopy

extension MigrationOptions {
    private static var knownFlags: Int {
        POSTCOPY_PRECOPY | POSTCOPY_NO_AUTOMATIC_SWITCH | POSTCOPY_AUTO_CONVERGE
            | POSTCOPY_NO_PREEMPT | POSTCOPY_PREEMPT_AT_SETUP | POSTCOPY_RELEASE_RAM
            | POSTCOPY_HEAL | POSTCOPY_IGNORE_SHARED
    }

    /// - Parameter options: where 0 is the default.
    init(_ options: postcopy_options) throws(Failure) {
        self.init()
        let flags = unsafe Int(options.flags)
        guard flags & ~Self.knownFlags == 0 else {
            throw .invalid("postcopy_options.flags has bits that this library does not know")
        }
        guard unsafe options.reserved == 0 else {
            throw .invalid("postcopy_options.reserved is not 0")
        }
        preempt = flags & POSTCOPY_NO_PREEMPT == 0
        preemptTiming = flags & POSTCOPY_PREEMPT_AT_SETUP == 0 ? .onceAnswered : .atSetup
        releasesRAM = flags & POSTCOPY_RELEASE_RAM != 0
        heals = flags & POSTCOPY_HEAL != 0
        ignoresShared = flags & POSTCOPY_IGNORE_SHARED != 0
        if let limit = unsafe options.silence_limit.orDefault { silenceNanosecondsMax = limit }
        if let limit = unsafe options.link_limit.orDefault { linkLimitNanoseconds = limit }
        if let limit = unsafe options.pause_limit.orDefault { pauseNanosecondsMax = limit }
        maxBandwidth = unsafe options.max_bandwidth.orDefault
        maxPostcopyBandwidth = unsafe options.max_postcopy_bandwidth.orDefault
        recovery = try unsafe RecoveryOptions(options)
        precopy = try unsafe PrecopyOptions(options, flags)
    }
}

extension RecoveryOptions {
    fileprivate init(_ options: postcopy_options) throws(Failure) {
        self.init()
        switch unsafe Int(options.recovery) {
        case POSTCOPY_RECOVER_AUTOMATICALLY: mode = .automatic
        case POSTCOPY_RECOVER_BY_HAND: mode = .byHand
        case POSTCOPY_RECOVER_NEVER: mode = .none
        default: throw .invalid("postcopy_options.recovery \(unsafe options.recovery) is none")
        }
        if let time = unsafe options.recovery_time.orDefault { lastingNanoseconds = time }
        addresses = try unsafe [ChannelAddress](
            options.recovery_addresses, options.recovery_address_count)
    }
}

extension PrecopyOptions {
    /// `nil` without a precopy, for which nothing may be said then.
    fileprivate init?(_ options: postcopy_options, _ flags: Int) throws(Failure) {
        guard flags & POSTCOPY_PRECOPY != 0 else {
            let precopyFlags = POSTCOPY_NO_AUTOMATIC_SWITCH | POSTCOPY_AUTO_CONVERGE
            let said = unsafe [
                options.warm_up, options.downtime_limit, options.switch_after,
                options.switch_after_rounds,
            ]
            guard flags & precopyFlags == 0, said.allSatisfy({ $0 == 0 }) else {
                throw .invalid(
                    "postcopy_options says how a precopy goes; set POSTCOPY_PRECOPY as well")
            }
            return nil
        }
        self.init()
        warmUpNanoseconds = unsafe options.warm_up
        let downtime = unsafe options.downtime_limit
        let (after, rounds) = unsafe (options.switch_after, options.switch_after_rounds)
        switchover = try coded {
            try SwitchoverSettings(
                downtimeLimitNanoseconds: downtime == UInt64.max
                    ? nil : downtime.orDefault ?? 300_000_000,
                switchAfterNanoseconds: after.orDefault, switchAfterRounds: rounds.orDefault,
                isAutomatic: flags & POSTCOPY_NO_AUTOMATIC_SWITCH == 0)
        }
        guard flags & POSTCOPY_AUTO_CONVERGE != 0 else { return }
        let (initial, more, most) = unsafe (
            options.throttle_initial, options.throttle_increment, options.throttle_max
        )
        autoConverge = try coded {
            try AutoConverge.Settings(
                initialPercent: UInt64(initial).orDefault ?? 20,
                incrementPercent: UInt64(more).orDefault ?? 10,
                maxPercent: UInt64(most).orDefault ?? 99)
        }
    }
}

extension MigrationLimits {
    /// Takes what C says.
    mutating func adopt(_ limits: postcopy_limits) {
        maxBandwidth = limits.max_bandwidth.orDefault
        maxPostcopyBandwidth = limits.max_postcopy_bandwidth.orDefault
        guard limits.downtime_limit != 0 else { return }
        let isNone = limits.downtime_limit == UInt64.max
        downtimeLimitNanoseconds = isNone ? nil : limits.downtime_limit
    }
}

extension postcopy_limits {
    init(_ limits: MigrationLimits) {
        self.init()
        max_bandwidth = limits.maxBandwidth ?? 0
        max_postcopy_bandwidth = limits.maxPostcopyBandwidth ?? 0
        downtime_limit = limits.downtimeLimitNanoseconds ?? UInt64.max
    }
}

extension UInt64 {
    /// `nil` where a member that C left 0 means the default.
    fileprivate var orDefault: UInt64? { self == 0 ? nil : self }
}

extension [ChannelAddress] {
    /// More than a host has networks.
    private static var countMax: Int { 64 }

    init(_ texts: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int) throws(Failure) {
        self.init()
        guard count != 0 else { return }
        guard (1...Self.countMax).contains(count) else {
            throw .invalid("\(count) addresses are over \(Self.countMax)")
        }
        guard let texts = unsafe texts else { throw .null("the list of addresses") }
        for index in 0..<count { append(try unsafe ChannelAddress(texts[index])) }
    }
}

extension ChannelAddress {
    init(_ pointer: UnsafePointer<CChar>?) throws(Failure) {
        let text = try unsafe text(pointer, "the address")
        do { try self.init(parsing: text) } catch { throw Failure(error) }
    }
}
