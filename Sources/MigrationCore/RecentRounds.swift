/// The last rounds of a precopy, in seconds at the bandwidth that each had.
struct RecentRounds: Equatable, Sendable {
    private struct Round: Equatable, Sendable {
        let seconds: Double
        let dirtiedSeconds: Double
    }

    /// Rounds kept: enough to see past one burst, and few enough to forget what the guest did before.
    private static let roundCountMax = 4
    /// What a round took beyond this multiple of its sending is its sync: the bandwidth is not known
    /// better than to a tenth.
    private static let bandwidthTolerance = 1.1
    /// A millisecond: the least that a sync and its wake-ups take.
    private static let overheadSecondsMin = 0.001

    private var rounds: [Round] = []
    private var bulkRatio = 0.0
    private var endedAt: UInt64?
    private var restSeconds = 0.0
    private(set) var overheadSeconds = RecentRounds.overheadSecondsMin

    /// Notes a round that has just ended, if a bandwidth is known.
    mutating func note(_ observation: PrecopyObservation) {
        guard observation.bandwidthBytesPerSecond > 0 else { return }
        let bandwidth = Double(observation.bandwidthBytesPerSecond)
        let ratio = Double(observation.dirtyBytesPerSecond) / bandwidth
        if let endedAt {
            let now = max(endedAt, observation.elapsedNanoseconds)
            let seconds = max((now - endedAt).seconds, RecentRounds.overheadSecondsMin)
            if rounds.count == RecentRounds.roundCountMax { rounds.removeFirst() }
            rounds.append(Round(seconds: seconds, dirtiedSeconds: seconds * ratio))
            overheadSeconds = max(
                seconds - restSeconds * RecentRounds.bandwidthTolerance,
                RecentRounds.overheadSecondsMin)
        } else {
            // Kept apart from the rounds to come, which are far shorter.
            bulkRatio = ratio
        }
        endedAt = observation.elapsedNanoseconds
        restSeconds = Double(observation.remainingBytes) / bandwidth
    }

    /// Dirtied over sent: in the last round, and in the last few when it is above 1.
    ///
    /// However fast a guest writes, as long as it goes on as before the rest comes to stand still, and
    /// the ratio at 1. Above that it has begun to write more; whether for good or in a burst the rounds
    /// before say best.
    private var ratio: Double {
        guard let last = rounds.last else { return bulkRatio }
        if last.dirtiedSeconds <= last.seconds { return last.dirtiedSeconds / last.seconds }
        let seconds = rounds.reduce(0) { $0 + $1.seconds }
        return rounds.reduce(0) { $0 + $1.dirtiedSeconds } / seconds
    }

    /// What the rounds noted so far say of those to come; `nil` while no bandwidth is known.
    func forecast(_ observation: PrecopyObservation, limitSeconds: Double) -> PrecopyForecast? {
        guard observation.bandwidthBytesPerSecond > 0 else { return nil }
        let bandwidth = Double(observation.bandwidthBytesPerSecond)
        let latest = Double(observation.dirtyBytesPerSecond) / bandwidth
        return PrecopyForecast(
            restSeconds: Double(observation.remainingBytes) / bandwidth,
            totalSeconds: Double(observation.totalBytes) / bandwidth,
            limitSeconds: limitSeconds, ratio: endedAt == nil ? latest : ratio,
            overheadSeconds: overheadSeconds)
    }
}
