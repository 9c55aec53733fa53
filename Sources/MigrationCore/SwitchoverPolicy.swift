/// Decides when a precopy ends and how, once.
///
/// Asked at any time, in some nanoseconds, and at each round end, in less than a microsecond. The
/// first rule that holds decides:
///
/// 1. fits-downtime: at a round end the rest fits into the downtime limit. By the automatic rule
///    precopy goes on all the same while another round makes the downtime shorter by more than it
///    costs.
/// 2. after-time and after-rounds: precopy has had what it was allowed.
/// 3. automatic: at a round end, when going on is expected to cost the guest no less than postcopy.
///    `SwitchoverCost` says what costs what. The bulk round is always finished: leaving it early
///    saves a tenth of what is left, and may cost all of it, since nothing is known of memory that
///    was not sent yet.
///
/// A wish for postcopy needs no policy: `SwitchoverDecision.byHand`.
///
/// Source: `migration_iteration_run` of QEMU (`migration/migration.c`), where the first rule comes
/// before a wish for postcopy, and the automatic rule has no counterpart.
public struct SwitchoverPolicy: Equatable, Sendable {
    /// Staying must be worth a hundredth of all that the migration costs. Less is lost in the noise
    /// of the figures, and rounds that gain less and less would go on for long.
    private static let leastGain = 0.01
    /// Precopy ends, whatever is expected of it, when it alone has cost this many times the best
    /// ending it has passed by: expectations that fail again and again must not hold it for ever.
    private static let patience = 2.0

    private var settings: SwitchoverSettings
    private var rounds = RecentRounds()
    /// The cost of the whole migration, had it ended at the best of the round ends so far.
    private var leastCost = Double.infinity
    private var isDecided = false

    /// A policy that has seen nothing yet.
    public init(settings: SwitchoverSettings = .usual) { self.settings = settings }

    /// Goes by other settings from here on. What an ending would have cost under the earlier ones is
    /// forgotten: it may not be had any more.
    public mutating func adopt(_ settings: SwitchoverSettings) {
        guard settings != self.settings else { return }
        self.settings = settings
        leastCost = .infinity
    }

    /// Whether precopy ends now; `nil` to go on, and always once it was decided.
    public mutating func decide(_ observation: PrecopyObservation) -> SwitchoverDecision? {
        guard !isDecided else { return nil }
        let isFresh = observation.isRoundEnd && observation.roundsDone > 0
        let allowed = exhausted(observation)
        guard isFresh || allowed != nil else { return nil }
        if isFresh { rounds.note(observation) }
        let limitSeconds = settings.downtimeLimitNanoseconds?.seconds ?? 0
        let forecast = rounds.forecast(observation, limitSeconds: limitSeconds)
        var ending = SwitchoverDecision.Ending.postcopy
        var rule = allowed
        if isFresh {
            let stays = isWorthStaying(forecast, elapsed: observation.elapsedNanoseconds)
            if fits(observation, forecast), allowed != nil || !(settings.isAutomatic && stays) {
                ending = .completesPrecopy
                rule = .fitsDowntime
            } else if allowed == nil, settings.isAutomatic, forecast != nil, !stays {
                rule = .automatic
            }
        }
        guard let rule else { return nil }
        isDecided = true
        return SwitchoverDecision(
            ending: ending, rule: rule, observation: observation, forecast: forecast,
            settings: settings)
    }

    /// The allowance that is used up.
    private func exhausted(_ observation: PrecopyObservation) -> SwitchoverDecision.Rule? {
        if let time = settings.switchAfterNanoseconds, observation.elapsedNanoseconds >= time {
            return .afterTime
        }
        if let rounds = settings.switchAfterRounds, observation.roundsDone >= rounds {
            return .afterRounds
        }
        return nil
    }

    private func fits(_ observation: PrecopyObservation, _ forecast: PrecopyForecast?) -> Bool {
        guard settings.downtimeLimitNanoseconds != nil else { return false }
        guard let forecast else { return observation.remainingBytes == 0 }
        return forecast.restSeconds <= forecast.limitSeconds
    }

    private mutating func isWorthStaying(_ forecast: PrecopyForecast?, elapsed: UInt64) -> Bool {
        guard let forecast else { return false }
        let spent = elapsed.seconds * SwitchoverCost.precopySecond
        let cost = spent + forecast.endingCost
        leastCost = min(leastCost, cost)
        guard spent <= leastCost * SwitchoverPolicy.patience else { return false }
        return forecast.endingCost - forecast.stayCost > cost * SwitchoverPolicy.leastGain
    }
}
