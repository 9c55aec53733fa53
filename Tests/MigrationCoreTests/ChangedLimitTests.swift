import MigrationCore
import Testing

/// A downtime limit that is changed while a precopy goes on.
@Suite("A changed downtime limit")
struct ChangedLimitTests {
    private static let second = SwitchoverPolicyTests.second

    private static func settings(_ limit: UInt64?) throws -> SwitchoverSettings {
        try SwitchoverSettings(downtimeLimitNanoseconds: limit, isAutomatic: false)
    }

    /// The end of a round that leaves a rest of so many seconds.
    private static func end(of round: UInt64, restSeconds: UInt64) -> PrecopyObservation {
        SwitchoverPolicyTests.observation(
            at: round * second, round: round,
            rest: restSeconds * SwitchoverPolicyTests.bandwidth, dirty: 100_000_000)
    }

    @Test("raised, it lets the next round complete, and not a moment inside a round")
    func raised() throws {
        var policy = SwitchoverPolicy(settings: try Self.settings(2 * Self.second))
        for round: UInt64 in 1...3 {
            #expect(policy.decide(Self.end(of: round, restSeconds: 5)) == nil)
        }
        let wider = try Self.settings(5 * Self.second)
        policy.adopt(wider)
        var inside = Self.end(of: 3, restSeconds: 5)
        inside.isRoundEnd = false
        #expect(policy.decide(inside) == nil)
        let decision = policy.decide(Self.end(of: 4, restSeconds: 5))
        #expect(decision?.rule == .fitsDowntime && decision?.ending == .completesPrecopy)
        #expect(decision?.settings == wider)
    }

    @Test("lowered or lifted, it lets no rest complete that would have fitted before")
    func lowered() throws {
        for limit in [Self.second, nil] {
            var policy = SwitchoverPolicy(settings: try Self.settings(5 * Self.second))
            policy.adopt(try Self.settings(limit))
            for round: UInt64 in 1...5 {
                #expect(policy.decide(Self.end(of: round, restSeconds: 5)) == nil)
            }
        }
    }

    @Test("the same settings again change nothing, and a decision stands")
    func same() throws {
        let settings = try Self.settings(5 * Self.second)
        var (policy, other) = (
            SwitchoverPolicy(settings: settings), SwitchoverPolicy(settings: settings)
        )
        _ = policy.decide(Self.end(of: 1, restSeconds: 9))
        _ = other.decide(Self.end(of: 1, restSeconds: 9))
        policy.adopt(settings)
        #expect(policy == other)
        #expect(policy.decide(Self.end(of: 2, restSeconds: 5)) != nil)
        policy.adopt(try Self.settings(6 * Self.second))
        #expect(policy.decide(Self.end(of: 3, restSeconds: 5)) == nil)
    }
}
