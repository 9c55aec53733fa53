/// What a migration costs the guest, in seconds of standing still.
///
/// Ending precopy at the time `t` with the rest `R` to send at the bandwidth `B` costs
///
///     t * precopySecond + R / B * postcopySecond + postcopyStart      by postcopy
///     t * precopySecond + R / B * downtimeSecond                      by completing
///
/// and completing is possible while `R / B` is within the downtime limit.
public enum SwitchoverCost {
    /// A second of precopy: the first write to each page after a sync faults for the tracker, and the
    /// sender takes processor and network. An assumption, between the few percent of a guest that
    /// rests and the fifth of one that writes much and shares its link.
    public static let precopySecond = 0.1
    /// A second in which pages are owed: every vCPU may stand in a missing page at any moment, so that
    /// it is priced as if all did. They do less, but a link lost now takes the guest down with it.
    public static let postcopySecond = 1.0
    /// A second in which the guest stands still.
    public static let downtimeSecond = 1.0
    /// Discards, the package, and the burst of faults when all vCPUs start on cold memory at once:
    /// tens of milliseconds. It makes completing the better of two equals, which owes nothing.
    public static let postcopyStart = 0.05

    /// The cost of ending with a rest of so many seconds.
    static func ofEnding(restSeconds rest: Double, limitSeconds limit: Double) -> Double {
        rest <= limit ? rest * downtimeSecond : rest * postcopySecond + postcopyStart
    }
}

/// What lies ahead of a precopy, as far as its last rounds tell.
struct PrecopyForecast {
    /// Rounds that are looked ahead: the rest shrinks to a thirtieth in them at the slowest pace that
    /// is worth staying for.
    private static let roundsAhead = 32

    /// What is left, all of memory, and the downtime limit, in seconds at the bandwidth.
    let restSeconds: Double
    let totalSeconds: Double
    let limitSeconds: Double
    /// Dirtied over sent, in the time that counts.
    let ratio: Double
    /// What a round takes beyond sending: its sync.
    let overheadSeconds: Double

    var endingCost: Double {
        SwitchoverCost.ofEnding(restSeconds: restSeconds, limitSeconds: limitSeconds)
    }

    var postcopyCost: Double {
        restSeconds * SwitchoverCost.postcopySecond + SwitchoverCost.postcopyStart
    }

    /// The least cost of ending after one more round, or two, or more.
    ///
    /// Each round takes as long as sending the rest that the one before left, and leaves what is
    /// dirtied meanwhile, at most all of memory. The ratio is taken to lie halfway between the one
    /// seen and 1: pages written again and again count once, so that the shorter a round, the more
    /// is dirtied a second; and a long round has hidden how hot the hot pages are.
    var stayCost: Double {
        let expected = (ratio + 1) / 2
        let most = max(totalSeconds, restSeconds)
        var rest = restSeconds
        var waiting = 0.0
        var least = Double.infinity
        for _ in 0..<PrecopyForecast.roundsAhead {
            let length = rest + overheadSeconds
            waiting += length * SwitchoverCost.precopySecond
            guard waiting < least else { break }
            rest = min(expected * length, most)
            let ending = SwitchoverCost.ofEnding(restSeconds: rest, limitSeconds: limitSeconds)
            least = min(least, waiting + ending)
        }
        return least
    }
}
