import MigrationCore
import StreamWire
import Testing

@Suite("RecoverySchedule")
struct RecoveryScheduleTests {
    private static let millisecond: UInt64 = 1_000_000

    @Test("it knocks at once, then after 10 ms, twice as long each time, and at most a second")
    func waits() {
        var schedule = RecoverySchedule(addressCount: 1, from: 500, lastingNanoseconds: nil)
        #expect(schedule.nextAttemptNanoseconds == 500 && schedule.stepNanoseconds == 0)
        var now: UInt64 = 500
        var waits: [UInt64] = []
        for _ in 0..<10 {
            #expect(schedule.begin() == 0)
            schedule.failed(at: now)
            let next = schedule.nextAttemptNanoseconds ?? 0
            waits.append((next - now) / Self.millisecond)
            now = next
        }
        #expect(waits == [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000])
    }

    @Test("each address is tried at once, and the wait comes behind a round of them")
    func addresses() {
        var schedule = RecoverySchedule(addressCount: 3, from: 0, lastingNanoseconds: nil)
        var taken: [Int] = []
        var dues: [UInt64] = []
        for _ in 0..<7 {
            dues.append((schedule.nextAttemptNanoseconds ?? 0) / Self.millisecond)
            taken.append(schedule.begin())
            schedule.failed(at: (dues.last ?? 0) * Self.millisecond)
        }
        #expect(taken == [0, 1, 2, 0, 1, 2, 0])
        #expect(dues == [0, 0, 0, 10, 10, 10, 30])
    }

    @Test("once its time is up somebody else must decide; the last attempt may be at its very end")
    func deadline() {
        var schedule = RecoverySchedule(
            addressCount: 1, from: 100, lastingNanoseconds: 15 * Self.millisecond)
        _ = schedule.begin()
        schedule.failed(at: 100)
        #expect(schedule.nextAttemptNanoseconds == 100 + 10 * Self.millisecond)
        _ = schedule.begin()
        schedule.failed(at: 100 + 10 * Self.millisecond)
        #expect(schedule.nextAttemptNanoseconds == nil)
        let endless = RecoverySchedule(
            addressCount: 1, from: .max - 5, lastingNanoseconds: .max)
        #expect(endless.nextAttemptNanoseconds == UInt64.max - 5)
        let once = RecoverySchedule(addressCount: 1, from: 7, lastingNanoseconds: 0)
        #expect(once.nextAttemptNanoseconds == 7)
    }
}

@Suite("RecoveryGate")
struct RecoveryGateTests {
    private static let token = MigrationToken(high: 1, low: 2)

    private static func hello(
        _ attempt: UInt32, token: MigrationToken = token, channel: ChannelHello.Channel = .main
    ) -> ChannelHello {
        ChannelHello(token: token, channel: channel, attempt: attempt)
    }

    @Test("in every phase the source is taken, told the end, or lets the old link end first")
    func everyPhase() {
        for phase in DestinationPhaseTests.phases {
            var gate = RecoveryGate(token: Self.token)
            let verdict = gate.judge(Self.hello(1), in: phase)
            let expected: RecoveryGate.Verdict =
                switch phase {
                case .paused(.running): .welcome(.running)
                case .paused: .welcome(.waiting)
                case .completed: .refuse(.completed)
                case .failed: .refuse(.neverRan)
                default: .endOldLink
                }
            #expect(verdict == expected, "\(phase)")
            // Only who is taken is remembered.
            #expect(gate.attempt == (phase.name == .paused ? 1 : 0))
        }
    }

    @Test("a wrong token is a stranger's in every phase, and so is an urgent channel in front")
    func strangers() {
        for phase in DestinationPhaseTests.phases {
            var gate = RecoveryGate(token: Self.token)
            for wrong in [MigrationToken(high: 1, low: 3), MigrationToken(high: 2, low: 2)] {
                let verdict = gate.judge(Self.hello(9, token: wrong), in: phase)
                #expect(verdict == .refuse(.stranger))
                #expect(!gate.admits(urgent: Self.hello(0, token: wrong, channel: .urgent)))
            }
            #expect(gate.judge(Self.hello(9, channel: .urgent), in: phase) == .refuse(.stranger))
            #expect(gate.attempt == 0)
        }
    }

    @Test("a verdict is what the judgement will be, as often as it is asked for")
    func verdicts() {
        for phase in DestinationPhaseTests.phases {
            var gate = RecoveryGate(token: Self.token)
            let first = gate.verdict(on: Self.hello(2), in: phase)
            #expect(gate.verdict(on: Self.hello(2), in: phase) == first && gate.attempt == 0)
            #expect(gate.judge(Self.hello(2), in: phase) == first)
        }
    }

    @Test("an attempt is taken once, and none before it any more")
    func attempts() {
        var gate = RecoveryGate(token: Self.token)
        #expect(gate.admits(urgent: Self.hello(0, channel: .urgent)))
        #expect(gate.judge(Self.hello(0), in: .paused(.running)) == .refuse(.busy))
        #expect(gate.judge(Self.hello(3), in: .paused(.running)) == .welcome(.running))
        for old in 0...3 as ClosedRange<UInt32> {
            #expect(gate.judge(Self.hello(old), in: .paused(.running)) == .refuse(.busy))
        }
        #expect(gate.admits(urgent: Self.hello(3, channel: .urgent)))
        #expect(!gate.admits(urgent: Self.hello(0, channel: .urgent)))
        #expect(!gate.admits(urgent: Self.hello(3)))
        #expect(gate.judge(Self.hello(4), in: .paused(.loading)) == .welcome(.waiting))
    }
}
