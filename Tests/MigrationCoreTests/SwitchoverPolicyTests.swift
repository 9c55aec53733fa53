import MigrationCore
import Testing

@Suite("SwitchoverPolicy")
struct SwitchoverPolicyTests {
    static let second: UInt64 = 1_000_000_000
    static let bandwidth: UInt64 = 1_000_000_000

    /// Memory of 16 s and a bandwidth of 1 GB/s.
    static func observation(
        at elapsed: UInt64, round: UInt64, isRoundEnd: Bool = true, rest: UInt64, dirty: UInt64,
        bandwidth: UInt64 = bandwidth
    ) -> PrecopyObservation {
        PrecopyObservation(
            elapsedNanoseconds: elapsed, roundsDone: round, isRoundEnd: isRoundEnd,
            remainingBytes: rest, totalBytes: 16_000_000_000, bandwidthBytesPerSecond: bandwidth,
            dirtyBytesPerSecond: dirty)
    }

    /// Every observation of a small world.
    static let observations: [PrecopyObservation] = {
        var all: [PrecopyObservation] = []
        for elapsed: UInt64 in [0, 59, 60, 61] {
            for round: UInt64 in 0...4 {
                for rest: UInt64 in [0, 1, 300_000_000, 300_000_001, 5_000_000_000] {
                    for dirty: UInt64 in [
                        0, 500_000_000, 950_000_000, 1_200_000_000, 9_000_000_000,
                    ] {
                        for bandwidth in [0, Self.bandwidth] {
                            for isRoundEnd in [false, true] {
                                all.append(
                                    observation(
                                        at: elapsed * second, round: round, isRoundEnd: isRoundEnd,
                                        rest: rest, dirty: dirty, bandwidth: bandwidth))
                            }
                        }
                    }
                }
            }
        }
        return all
    }()

    private static let allowances: [(time: UInt64?, rounds: UInt64?)] = [
        (nil, nil), (60 * second, nil), (nil, 3), (60 * second, 3),
    ]

    private func fits(_ observation: PrecopyObservation) -> Bool {
        guard observation.isRoundEnd, observation.roundsDone > 0 else { return false }
        return observation.remainingBytes == 0
            || (observation.bandwidthBytesPerSecond > 0
                && observation.remainingBytes <= 300_000_000)
    }

    @Test("without the automatic rule: fits first, then the time, then the rounds, in every state")
    func byAllowance() throws {
        for (time, rounds) in Self.allowances {
            let settings = try SwitchoverSettings(
                switchAfterNanoseconds: time, switchAfterRounds: rounds, isAutomatic: false)
            for observation in Self.observations {
                var policy = SwitchoverPolicy(settings: settings)
                let decision = policy.decide(observation)
                var rule: SwitchoverDecision.Rule?
                if let rounds, observation.roundsDone >= rounds { rule = .afterRounds }
                if let time, observation.elapsedNanoseconds >= time { rule = .afterTime }
                if fits(observation) { rule = .fitsDowntime }
                #expect(decision?.rule == rule, "\(observation)")
                let ending: SwitchoverDecision.Ending? =
                    rule.map { $0 == .fitsDowntime ? .completesPrecopy : .postcopy }
                #expect(decision?.ending == ending, "\(observation)")
            }
        }
    }

    @Test("the automatic rule adds an ending at round ends, and may put off one that fits")
    func automatic() throws {
        for (time, rounds) in Self.allowances {
            let settings = try SwitchoverSettings(
                switchAfterNanoseconds: time, switchAfterRounds: rounds)
            let plain = try SwitchoverSettings(
                switchAfterNanoseconds: time, switchAfterRounds: rounds, isAutomatic: false)
            for observation in Self.observations {
                var policy = SwitchoverPolicy(settings: settings)
                var plainPolicy = SwitchoverPolicy(settings: plain)
                let decision = policy.decide(observation)
                let other = plainPolicy.decide(observation)
                let isAllowedMore =
                    observation.elapsedNanoseconds < time ?? .max
                    && observation.roundsDone < rounds ?? .max
                if decision?.rule == .automatic {
                    #expect(other == nil && observation.isRoundEnd && observation.roundsDone > 0)
                    #expect(!fits(observation) && observation.bandwidthBytesPerSecond > 0)
                    #expect(decision?.ending == .postcopy)
                } else if decision == nil, other != nil {
                    // Another round shortens the downtime: only while nothing has run out.
                    #expect(fits(observation) && isAllowedMore, "\(observation)")
                    #expect(observation.remainingBytes > 1)
                } else {
                    #expect(decision?.rule == other?.rule && decision?.ending == other?.ending)
                }
            }
        }
    }

    @Test("a guest that dirties more than is sent is switched at the end of the bulk round")
    func above() {
        for percent: UInt64 in [100, 101, 200, 1_000, 1_000_000] {
            var policy = SwitchoverPolicy()
            let decision = policy.decide(
                Self.observation(
                    at: 16 * Self.second, round: 1, rest: 9_000_000_000,
                    dirty: Self.bandwidth / 100 * percent))
            #expect(decision?.rule == .automatic, "\(percent) %")
            #expect(decision?.ending == .postcopy)
        }
    }

    @Test("a guest that converges is left to converge, round after round, and completes")
    func converging() {
        var policy = SwitchoverPolicy()
        var rest: UInt64 = 16_000_000_000
        var elapsed: UInt64 = 0
        var decision: SwitchoverDecision?
        var round: UInt64 = 0
        while decision == nil, round < 100 {
            // A billion bytes a second: so many bytes take so many nanoseconds.
            elapsed += rest
            rest = rest / 2
            round += 1
            decision = policy.decide(
                Self.observation(at: elapsed, round: round, rest: rest, dirty: 500_000_000))
        }
        #expect(decision?.rule == .fitsDowntime)
        #expect(decision?.ending == .completesPrecopy)
        // It fits after six rounds; two more make the downtime a quarter.
        #expect(rest == 62_500_000)
        #expect(round == 8)
    }

    @Test("expectations that fail for ever do not hold precopy for ever")
    func patience() {
        var policy = SwitchoverPolicy()
        var decision: SwitchoverDecision?
        var round: UInt64 = 0
        while decision == nil, round < 1_000 {
            round += 1
            // Nothing is dirtied, it says, and yet as much is left each time.
            decision = policy.decide(
                Self.observation(
                    at: 16 * Self.second + (round - 1) * 8 * Self.second, round: round,
                    rest: 8_000_000_000, dirty: 0))
        }
        #expect(decision?.rule == .automatic)
        // The bulk round's end would have cost 1.6 s and 8.05 s; precopy alone costs twice that in 193 s.
        #expect((decision?.observation.elapsedNanoseconds ?? 0) / Self.second == 200)
    }

    @Test("a burst in a short round is waited for, one that goes on is not")
    func burst() {
        func decision(after ratios: [Double]) -> SwitchoverDecision? {
            var policy = SwitchoverPolicy()
            var rest = 4_000_000_000.0
            var elapsed = 16_000_000_000.0
            var decision = policy.decide(
                Self.observation(
                    at: UInt64(elapsed), round: 1, rest: UInt64(rest), dirty: 250_000_000))
            for (index, ratio) in ratios.enumerated() where decision == nil {
                elapsed += rest
                rest *= ratio
                decision = policy.decide(
                    Self.observation(
                        at: UInt64(elapsed), round: UInt64(index) + 2, rest: UInt64(rest),
                        dirty: UInt64(ratio * 1e9)))
            }
            return decision
        }
        #expect(decision(after: [0.4, 0.4, 1.3]) == nil)
        #expect(decision(after: [0.4, 0.4, 1.3, 1.3, 1.3])?.observation.roundsDone == 6)
        #expect(decision(after: [0.4, 0.95])?.observation.roundsDone == 3)
    }

    @Test("a policy decides once")
    func once() {
        let last = Self.observation(
            at: 16 * Self.second, round: 1, rest: 9_000_000_000, dirty: 9_000_000_000)
        var policy = SwitchoverPolicy()
        #expect(policy.decide(last) != nil)
        #expect(policy.decide(last) == nil)
    }

    @Test("no figure is too small or too large")
    func extremes() throws {
        let numbers: [UInt64] = [0, 1, 1 << 40, .max]
        let settings = try SwitchoverSettings(
            downtimeLimitNanoseconds: 1, switchAfterNanoseconds: Self.second, switchAfterRounds: 2)
        var decided = 0
        for elapsed in numbers {
            for rest in numbers {
                for total in numbers {
                    for bandwidth in numbers {
                        for dirty in numbers {
                            var policy = SwitchoverPolicy(settings: settings)
                            for round: UInt64 in [1, .max] {
                                let observation = PrecopyObservation(
                                    elapsedNanoseconds: elapsed, roundsDone: round,
                                    isRoundEnd: true, remainingBytes: rest, totalBytes: total,
                                    bandwidthBytesPerSecond: bandwidth, dirtyBytesPerSecond: dirty)
                                let byHand = SwitchoverDecision.byHand(observation).description
                                #expect(!byHand.contains("nan") && !byHand.contains("inf"))
                                guard let decision = policy.decide(observation) else { continue }
                                decided += 1
                                let text = decision.description
                                #expect(!text.contains("nan") && !text.contains("inf"), "\(text)")
                            }
                        }
                    }
                }
            }
        }
        #expect(decided == 1024)
    }

    @Test("without a downtime limit nothing but the allowance ends a precopy")
    func noLimit() throws {
        let settings = try SwitchoverSettings(
            downtimeLimitNanoseconds: nil, switchAfterRounds: 3, isAutomatic: false)
        var policy = SwitchoverPolicy(settings: settings)
        var observation = PrecopyObservation(
            elapsedNanoseconds: Self.second, roundsDone: 1, isRoundEnd: true, remainingBytes: 0,
            totalBytes: 1 << 30, bandwidthBytesPerSecond: 1 << 30, dirtyBytesPerSecond: 0)
        let early = policy.decide(observation)
        #expect(early == nil)
        observation.roundsDone = 3
        let decision = policy.decide(observation)
        #expect(decision?.rule == .afterRounds && decision?.ending == .postcopy)
    }
}
