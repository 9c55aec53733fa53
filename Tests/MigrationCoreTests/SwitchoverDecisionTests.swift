import MigrationCore
import Testing

@Suite("SwitchoverDecision")
struct SwitchoverDecisionTests {
    private static let second: UInt64 = 1_000_000_000

    private func observation(round: UInt64, isRoundEnd: Bool = true, rest: UInt64, dirty: UInt64)
        -> PrecopyObservation
    {
        PrecopyObservation(
            elapsedNanoseconds: 8 * Self.second, roundsDone: round, isRoundEnd: isRoundEnd,
            remainingBytes: rest, totalBytes: 8 << 30, bandwidthBytesPerSecond: 1 << 30,
            dirtyBytesPerSecond: dirty)
    }

    private func decision(
        _ observation: PrecopyObservation, _ settings: SwitchoverSettings = .usual
    ) -> String? {
        var policy = SwitchoverPolicy(settings: settings)
        return policy.decide(observation)?.description
    }

    @Test("each rule says in one line what it saw")
    func lines() throws {
        #expect(
            decision(observation(round: 1, rest: 1 << 30, dirty: 5 << 30))
                == "automatic: dirtying 5.00 GiB/s against 1.00 GiB/s of bandwidth does not converge; "
                + "staying would cost 3.15 s of the guest's time, postcopy 1.05 s")
        #expect(
            decision(observation(round: 1, rest: 6 << 30, dirty: 900 << 20))
                == "automatic: dirtying 900 MiB/s against 1.00 GiB/s of bandwidth converges too slowly; "
                + "staying would cost 6.29 s of the guest's time, postcopy 6.05 s")
        #expect(
            decision(observation(round: 2, rest: 1 << 20, dirty: 900 << 20))
                == "fits-downtime: the rest of 1.00 MiB takes 977 us at 1.00 GiB/s, of the 300 ms "
                + "allowed")
        let time = try SwitchoverSettings(switchAfterNanoseconds: 7 * Self.second)
        #expect(
            decision(observation(round: 0, isRoundEnd: false, rest: 3 << 30, dirty: 0), time)
                == "after-time: precopy took 8.00 s of the 7.00 s allowed; the rest of 3.00 GiB takes "
                + "3.00 s at 1.00 GiB/s")
        let rounds = try SwitchoverSettings(switchAfterRounds: 1)
        #expect(
            decision(observation(round: 1, rest: 3 << 30, dirty: 0), rounds)
                == "after-rounds: precopy took 1 of the 1 round allowed; the rest of 3.00 GiB takes "
                + "3.00 s at 1.00 GiB/s")
    }

    @Test("a wish is obeyed whatever the figures say, and also before there are any")
    func byHand() {
        let last = observation(round: 3, rest: 1 << 20, dirty: 0)
        let decision = SwitchoverDecision.byHand(last)
        #expect(decision.ending == .postcopy)
        #expect(decision.rule == .byHand)
        #expect(decision.observation == last)
        #expect(decision.settings == nil)
        #expect(decision.prediction?.downtimeNanoseconds == 976_563)
        #expect(
            decision.description
                == "by-hand: postcopy was asked for; the rest of 1.00 MiB takes 977 us at 1.00 GiB/s"
        )
        var early = last
        early.bandwidthBytesPerSecond = 0
        let blind = SwitchoverDecision.byHand(early)
        #expect(blind.prediction == nil)
        #expect(
            blind.description
                == "by-hand: postcopy was asked for; the rest of 1.00 MiB goes at a bandwidth not yet "
                + "known")
    }

    @Test("the names of the rules are those that reports print")
    func names() {
        #expect(
            SwitchoverDecision.Rule.allCases.map(\.description) == [
                "by-hand", "after-time", "after-rounds", "fits-downtime", "automatic",
            ])
    }

    @Test("settings that cannot be are refused with their value and the remedy")
    func settings() throws {
        let hour = 3600 * Self.second
        func refusal(_ make: () throws -> SwitchoverSettings) -> PrecopySettingsError? {
            do {
                _ = try make()
                return nil
            } catch let error as PrecopySettingsError {
                return error
            } catch {
                return nil
            }
        }
        #expect(refusal { try SwitchoverSettings(downtimeLimitNanoseconds: 0) } == .noDowntime)
        #expect(refusal { try SwitchoverSettings(downtimeLimitNanoseconds: 1) } == nil)
        #expect(
            refusal { try SwitchoverSettings(downtimeLimitNanoseconds: 2_000 * Self.second) } == nil
        )
        #expect(
            refusal { try SwitchoverSettings(downtimeLimitNanoseconds: hour) }
                == .downtimeTooLong(nanoseconds: hour))
        #expect(
            refusal { try SwitchoverSettings(switchAfterNanoseconds: 0) } == .noPrecopyTime)
        #expect(refusal { try SwitchoverSettings(switchAfterNanoseconds: 24 * hour) } == nil)
        #expect(
            refusal { try SwitchoverSettings(switchAfterNanoseconds: .max) }
                == .precopyTimeTooLong(nanoseconds: .max))
        #expect(refusal { try SwitchoverSettings(switchAfterRounds: 0) } == .noRounds)
        #expect(refusal { try SwitchoverSettings(switchAfterRounds: .max) } == nil)
        #expect(try SwitchoverSettings() == .usual)
        let text = PrecopySettingsError.downtimeTooLong(nanoseconds: hour).description
        #expect(text.contains("3600 s") && text.contains("2000 s"))
        #expect(PrecopySettingsError.noDowntime.description.contains("300 ms"))
        #expect(
            PrecopySettingsError.precopyTimeTooLong(nanoseconds: .max).description.contains(
                "86400 s"))
    }
}
