/// That a precopy ends now, how, and why.
public struct SwitchoverDecision: Equatable, Sendable, CustomStringConvertible {
    /// How a precopy ends.
    public enum Ending: Equatable, Sendable {
        /// The guest stops and the rest is sent: nothing is owed.
        case completesPrecopy
        /// The guest goes on at the destination, and the rest is owed to it.
        case postcopy
    }

    /// Which rule ended it.
    public enum Rule: String, CaseIterable, Sendable, CustomStringConvertible {
        /// Somebody asked for postcopy.
        case byHand = "by-hand"
        /// The time that it was allowed is over.
        case afterTime = "after-time"
        /// So are the rounds.
        case afterRounds = "after-rounds"
        /// The rest can be sent within the downtime limit.
        case fitsDowntime = "fits-downtime"
        /// Going on with precopy is expected to cost the guest more than postcopy.
        case automatic

        public var description: String { rawValue }
    }

    /// How it ends.
    public let ending: Ending
    /// Why.
    public let rule: Rule
    /// The figures that it was decided on.
    public let observation: PrecopyObservation
    /// `nil` while no bandwidth is known.
    public let prediction: SwitchoverPrediction?
    /// `nil` when it was made by hand.
    public let settings: SwitchoverSettings?

    /// Postcopy, because somebody asked for it: always obeyed, whatever the figures say.
    public static func byHand(_ observation: PrecopyObservation) -> SwitchoverDecision {
        // Without a limit nothing fits.
        let forecast = RecentRounds().forecast(observation, limitSeconds: 0)
        return SwitchoverDecision(
            ending: .postcopy, rule: .byHand, observation: observation, forecast: forecast,
            settings: nil)
    }

    init(
        ending: Ending, rule: Rule, observation: PrecopyObservation, forecast: PrecopyForecast?,
        settings: SwitchoverSettings?
    ) {
        self.ending = ending
        self.rule = rule
        self.observation = observation
        self.settings = settings
        let bandwidth = Double(observation.bandwidthBytesPerSecond)
        prediction = forecast.map { SwitchoverPrediction($0, bandwidth: bandwidth) }
    }

    /// One line with the numbers.
    public var description: String { "\(rule): \(reason)" }

    private var reason: String {
        switch rule {
        case .byHand: "postcopy was asked for; the rest of \(rest)"
        case .afterTime:
            "precopy took \(Readable.time(observation.elapsedNanoseconds)) of the "
                + "\(Readable.time(settings?.switchAfterNanoseconds ?? 0)) allowed; the rest of \(rest)"
        case .afterRounds:
            "precopy took \(observation.roundsDone) of the "
                + Readable.count(settings?.switchAfterRounds ?? 0, "round", "rounds")
                + " allowed; the rest of \(rest)"
        case .fitsDowntime:
            "the rest of \(rest), of the "
                + "\(Readable.time(settings?.downtimeLimitNanoseconds ?? 0)) allowed"
        case .automatic: comparison
        }
    }

    private var rest: String {
        let bytes = Readable.bytes(observation.remainingBytes)
        guard let prediction else { return "\(bytes) goes at a bandwidth not yet known" }
        return "\(bytes) takes \(Readable.time(prediction.downtimeNanoseconds)) at \(bandwidth)"
    }

    private var bandwidth: String { Readable.rate(Double(observation.bandwidthBytesPerSecond)) }

    private var comparison: String {
        guard let prediction else { return "the rest of \(rest)" }
        let converges = prediction.dirtyBytesPerSecond < observation.bandwidthBytesPerSecond
        return "dirtying \(Readable.rate(Double(prediction.dirtyBytesPerSecond))) against "
            + "\(bandwidth) of bandwidth \(converges ? "converges too slowly" : "does not converge"); "
            + "staying would cost \(Readable.time(prediction.stayCostNanoseconds)) of the guest's time, "
            + "postcopy \(Readable.time(prediction.postcopyCostNanoseconds))"
    }
}

/// What a decision rests on. Costs are in time that the guest loses from now on, as `SwitchoverCost`
/// prices it.
public struct SwitchoverPrediction: Equatable, Sendable {
    /// Newly dirtied per second, over the rounds that were taken into account.
    public let dirtyBytesPerSecond: UInt64
    /// How long the rest takes at the bandwidth.
    public let downtimeNanoseconds: UInt64
    /// Of going on with precopy and ending it at the best of the coming rounds.
    public let stayCostNanoseconds: UInt64
    /// Of postcopy now.
    public let postcopyCostNanoseconds: UInt64

    init(_ forecast: PrecopyForecast, bandwidth: Double) {
        dirtyBytesPerSecond = UInt64(exactly: (forecast.ratio * bandwidth).rounded()) ?? .max
        downtimeNanoseconds = UInt64(nanosecondsOf: forecast.restSeconds)
        stayCostNanoseconds = UInt64(nanosecondsOf: forecast.stayCost)
        postcopyCostNanoseconds = UInt64(nanosecondsOf: forecast.postcopyCost)
    }
}
