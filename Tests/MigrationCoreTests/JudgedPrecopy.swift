import MigrationCore
import TestSupport

/// What a policy made of a trace, beside the best that could be made of it.
struct JudgedPrecopy {
    let decisions: [SwitchoverDecision]
    let cost: Double
    let atSeconds: Double
    let bestCost: Double
    let bestAtSeconds: Double
    /// What was left when the policy ended precopy, in seconds at the true bandwidth.
    let restSeconds: Double

    /// 1 is as good as with hindsight.
    var ratio: Double { cost / bestCost }

    static let pageBytes = 4096.0

    /// Runs a precopy over `trace` until nothing that could still come is better than the best seen.
    ///
    /// The figures that the policy sees go through `TransferRates`, and are off by up to `noise`, each
    /// on its own. `nil` when the policy does not decide although precopy has cost twenty times what
    /// the best ending did.
    static func run(
        _ trace: DirtyTrace, settings: SwitchoverSettings = .usual, noise: Double = 0.05,
        seed: UInt64
    ) -> JudgedPrecopy? {
        var random = SeededRandom(seed: seed)
        var precopy = SimulatedPrecopy(
            trace, limitSeconds: Double(settings.downtimeLimitNanoseconds ?? 0) / 1e9)
        var policy = SwitchoverPolicy(settings: settings)
        var rates = TransferRates(pageSizeBytes: UInt64(pageBytes), at: 0)
        var decisions: [SwitchoverDecision] = []
        var ended: (cost: Double, at: Double, rest: Double)?
        let bandwidth = trace.bandwidthBytesPerSecond
        func noisy(_ value: Double) -> UInt64 {
            UInt64(value * (1 + .random(in: -noise...noise, using: &random)))
        }
        func ask(_ now: borrowing SimulatedPrecopy, isRoundEnd: Bool) {
            let observation = PrecopyObservation(
                elapsedNanoseconds: UInt64(now.time * 1e9), roundsDone: now.roundsDone,
                isRoundEnd: isRoundEnd, remainingBytes: noisy(now.known * bandwidth),
                totalBytes: UInt64(trace.totalSeconds * bandwidth),
                bandwidthBytesPerSecond: noisy(Double(rates.bytesPerSecond)),
                dirtyBytesPerSecond: noisy(Double(rates.dirtyBytesPerSecond)))
            guard let decision = policy.decide(observation) else { return }
            decisions.append(decision)
            ended = ended ?? (now.cost(of: decision.ending), now.time, now.rest)
        }
        func hasEnded(_ now: borrowing SimulatedPrecopy) -> Bool {
            ended != nil && now.time * SwitchoverCost.precopySecond > now.best.cost
        }
        while !hasEnded(precopy) {
            if precopy.time * SwitchoverCost.precopySecond > 20 * precopy.best.cost { return nil }
            let dirtied = precopy.round { now in
                let sent = UInt64(now.sentSeconds * bandwidth)
                rates.noteSent(
                    bytes: sent, pages: sent / UInt64(pageBytes), at: UInt64(now.time * 1e9))
                ask(now, isRoundEnd: false)
            }
            rates.noteSync(
                newlyDirtyPages: UInt64(dirtied * bandwidth / pageBytes),
                at: UInt64(precopy.time * 1e9))
            ask(precopy, isRoundEnd: true)
        }
        guard let ended else { return nil }
        return JudgedPrecopy(
            decisions: decisions, cost: ended.cost, atSeconds: ended.at,
            bestCost: precopy.best.cost, bestAtSeconds: precopy.best.at, restSeconds: ended.rest)
    }
}
