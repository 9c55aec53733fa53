import CPostcopy
import LinuxKernel
import Synchronization
import TestSupport
import Testing

@testable import PostcopyC

/// What runs once, whatever others ask of it meanwhile.
@Suite struct SingleRunTests {
    private static let refusal = Failure.refused("no")

    private static func outcome(_ body: () throws(Failure) -> Int) -> Result<Int, Failure> {
        do throws(Failure) { return .success(try body()) } catch { return .failure(error) }
    }

    @Test(
        "whoever waits for one that is refused at its start learns that", arguments: [false, true])
    func refused(isBeside: Bool) throws {
        let single = try SingleRun<Int>("a test")
        let (begun, goesOn, waits) = (try EventFlag(), try EventFlag(), try EventFlag())
        let starting = try Bounded("starter") { () -> Result<Int, Failure> in
            Self.outcome { () throws(Failure) in
                func refuse() throws(Failure) {
                    begun.raise()
                    _ = goesOn.wait(timeoutNanoseconds: patience)
                    throw Self.refusal
                }
                guard isBeside else {
                    return try single.run { () throws(Failure) in
                        try refuse()
                        return 1
                    }
                }
                try single.start(refuse) { 1 }
                return 1
            }
        }
        #expect(begun.wait(timeoutNanoseconds: patience))
        let waiting = try Bounded("waiter") { () -> [Result<Int, Failure>] in
            let now = Self.outcome { () throws(Failure) in
                try single.wait(timeoutNanoseconds: 0)
            }
            waits.raise()
            return [
                now,
                Self.outcome { () throws(Failure) in
                    try single.wait(timeoutNanoseconds: .max)
                },
            ]
        }
        #expect(waits.wait(timeoutNanoseconds: patience))
        goesOn.raise()
        #expect(starting.output() == .failure(Self.refusal))
        let heard = try #require(waiting.output(), "it waits for ever")
        #expect(heard[0] == .failure(.timedOut))
        guard case .failure(let failure) = heard[1] else {
            Issue.record("\(heard)")
            return
        }
        #expect(failure.code == POSTCOPY_WRONG_STATE && failure.message.contains("not started"))
        // It may begin again, and is waited for then.
        #expect(single.isIdle)
        #expect(Self.outcome { () throws(Failure) in try single.run { 2 } } == .success(2))
        #expect(
            Self.outcome { () throws(Failure) in try single.wait(timeoutNanoseconds: .max) }
                == .success(2))
        #expect(!single.isIdle)
    }
}
