import LinuxKernel
import Synchronization
import TestSupport
import Testing

@testable import PostcopyRuntime

/// A guest that only stops and runs.
private final class StoppingGuest: Guest {
    let machineType = "stopping-1"
    let memory: [GuestRAM] = []
    let vcpuThreads: [Int32] = []
    let faultOrigin = FaultOrigin.userOnly
    let isRunning = Atomic(true)
    var runs: Bool { isRunning.load(ordering: .sequentiallyConsistent) }
    let onPause: @Sendable () -> Void

    init(onPause: @escaping @Sendable () -> Void = {}) { self.onPause = onPause }

    func pause() {
        onPause()
        isRunning.store(false, ordering: .sequentiallyConsistent)
    }

    func resume() { isRunning.store(true, ordering: .sequentiallyConsistent) }
    func saveDevices() -> [UInt8] { [] }
    func loadDevices(_ sections: [UInt8]) throws(GuestError) {}
}

@Suite(.timeLimit(.minutes(2))) struct GuestStopTests {
    private static let patienceNanoseconds: UInt64 = 20_000_000_000

    @Test("a stop that is undone at once leaves the guest running, whenever its thread begins")
    func undoneAtOnce() throws {
        for _ in 0..<200 {
            let guest = StoppingGuest()
            let (stopped, left) = (try EventFlag(), try EventFlag())
            let stop = try GuestStop(of: guest, raising: stopped)
            if stop.undoes() { guest.resume() }
            stop.whenLeft { left.raise() }
            #expect(left.wait(timeoutNanoseconds: Self.patienceNanoseconds))
            #expect(guest.runs)
        }
    }

    @Test("a guest is left only once a late stop was undone")
    func late() throws {
        let (asked, gate, left) = (try EventFlag(), try EventFlag(), try EventFlag())
        let guest = StoppingGuest {
            asked.raise()
            gate.wait()
        }
        let stop = try GuestStop(of: guest, raising: try EventFlag())
        #expect(asked.wait(timeoutNanoseconds: Self.patienceNanoseconds))
        #expect(!stop.undoes())
        stop.whenLeft { left.raise() }
        #expect(!left.wait(timeoutNanoseconds: 0) && !stop.isLeft)
        gate.raise()
        #expect(left.wait(timeoutNanoseconds: Self.patienceNanoseconds) && stop.isLeft)
        #expect(guest.runs)
        #expect(!stop.undoes(), "whoever asks again has nothing to do")
    }

    @Test("a guest that has stopped is left at once, and is the caller's to let run")
    func stopped() throws {
        let guest = StoppingGuest()
        let (flag, left) = (try EventFlag(), try EventFlag())
        let stop = try GuestStop(of: guest, raising: flag)
        #expect(flag.wait(timeoutNanoseconds: Self.patienceNanoseconds) && stop.isStopped)
        stop.whenLeft { left.raise() }
        #expect(left.wait(timeoutNanoseconds: 0))
        #expect(!guest.runs)
        #expect(stop.undoes())
    }
}
