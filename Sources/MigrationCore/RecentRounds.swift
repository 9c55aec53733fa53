/// The last rounds of a precopy, in seconds at the bandwidth that each had.
struct RecentRounds: Equatable, Sendable {
    private struct Round: Equatable, Sendable {
        let seconds: Double
        let dirtiedSeconds: Double
    }

    /// How far back the ratio looks, in lengths of the coming round. With one alone a short burst in
    /// a short round looks like a guest that never rests; with more, one that has begun to write for
    /// good is seen late.
    private static let windowRests = 3.0
    /// Rounds kept. They shrink where it matters how far back one looks, so that four cover it.
    private static let roundCountMax = 4
    /// What a round took beyond this multiple of its sending is its sync: the bandwidth is not known
    /// better than to a tenth.
    private static let bandwidthTolerance = 1.1
    /// A millisecond: the least that a sync and its wake-ups take.
    private static let overheadSecondsMin = 0.001

    private var rounds: [Round] = []
    private var bulkRatio = 1.0
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
            // Its length says nothing of the rounds to come, so that it is not kept among them.
            bulkRatio = ratio
        }
        endedAt = observation.elapsedNanoseconds
        restSeconds = Double(observation.remainingBytes) / bandwidth
    }

    /// Dirtied over sent: over the last round, and as far back as a few rounds of the coming length.
    var ratio: Double {
        guard let last = rounds.last else { return bulkRatio }
        let window = max(last.seconds, restSeconds * RecentRounds.windowRests)
        var seconds = 0.0
        var dirtied = 0.0
        for round in rounds.reversed() where seconds < window {
            let taken = min(round.seconds, window - seconds)
            seconds += taken
            dirtied += round.dirtiedSeconds * (taken / round.seconds)
        }
        return dirtied / seconds
    }

    /// What the rounds noted so far say of those to come; `nil` while no bandwidth is known.
    func forecast(_ observation: PrecopyObservation, limitSeconds: Double) -> PrecopyForecast? {
        guard observation.bandwidthBytesPerSecond > 0 else { return nil }
        let bandwidth = Double(observation.bandwidthBytesPerSecond)
        return PrecopyForecast(
            restSeconds: Double(observation.remainingBytes) / bandwidth,
            totalSeconds: Double(observation.totalBytes) / bandwidth,
            limitSeconds: limitSeconds, ratio: ratio, overheadSeconds: overheadSeconds)
    }
}
