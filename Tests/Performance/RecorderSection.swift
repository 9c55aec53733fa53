import FlightRecorder
import HeldFaults
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime

/// What recording costs: the account of waits with the flight recorder beside the same without, and
/// page faults that the kernel times beside faults that it does not.
struct RecorderSection {
    let runs: Int

    static let title =
        "what recording a fault costs; floor: the account of waits alone, and untimed faults"

    /// A rate that one userfaultfd hardly reaches.
    private static let faultsPerSecond = 100_000.0
    private static let waitCount = 1_000_000
    private static let faultCount = 50_000

    func rows() throws -> [Row] {
        let guest = try BenchGuest(memoryBytes: UInt64(Self.waitCount) << 12)
        var plain: [Double] = []
        var recorded: [Double] = []
        var untimed: [Double] = []
        var timed: [Double] = []
        for _ in 0..<runs {
            plain.append(nanosecondsPerWait(guest.ram, isRecording: false))
            recorded.append(nanosecondsPerWait(guest.ram, isRecording: true))
            untimed.append(try nanosecondsPerFault(isTimed: false))
            timed.append(try nanosecondsPerFault(isTimed: true))
        }
        try printHeld()
        let services = (0..<runs).map { _ in nanosecondsPerService() }
        print("a request at the source takes \(one(median(services))) ns to record")
        let share = (median(recorded) - median(plain)) * Self.faultsPerSecond / 1e9 * 100
        print("recording takes \(two(share)) % of a processor at 100,000 faults a second")
        return [
            Row("account of one wait, recorded", unit: "ns", pairs: Array(zip(plain, recorded))),
            Row("page fault of this process, timed", unit: "ns", pairs: Array(zip(untimed, timed))),
        ]
    }

    private func nanosecondsPerWait(_ ram: GuestRAM, isRecording: Bool) -> Double {
        var options = MigrationOptions()
        options.recordsFaults = isRecording
        options.timesFaultsInKernel = false
        var account = WaitAccount(
            blocks: [ram], options: options, counters: WaitCounters(), halts: nil)
        let start = Monotonic.now()
        account.noteVCPUs([1, 2], at: start)
        for index in 0..<Self.waitCount {
            let page = HostPage(
                block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: index))
            let event = FaultEvent(address: ram.address, thread: Int32(1 + index & 1))
            let slot = account.begin(event, page, readAt: start + UInt64(index))
            account.awaitWrite(slot)
            account.noteWrite(at: start + UInt64(index))
            account.close(
                page, at: start + UInt64(index + 1),
                .urgent(firstByteAt: start + UInt64(index)))
        }
        let end = Monotonic.now()
        precondition(account.finish().blocktime.latency.count == UInt64(Self.waitCount))
        return Double(end - start) / Double(Self.waitCount)
    }

    private func nanosecondsPerService() -> Double {
        var recorder = ServiceRecorder(isOn: true)
        let start = Monotonic.now()
        for index in 0..<Self.waitCount {
            let page = HostPage(
                block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: index))
            recorder.take(page, receivedAt: start)
            recorder.noteWritten()
        }
        return Double(Monotonic.now() - start) / Double(Self.waitCount)
    }

    private static func holds(ofVCPU vcpu: Int) -> [UInt64] {
        (0..<8).map { round in
            let milliseconds = 1 + (vcpu * 7 + round * 5) % 20
            return UInt64(milliseconds) * 1_000_000
        }
    }

    /// How far the account is from the truth where real faults are held for 1 to 20 ms.
    private func printHeld() throws {
        for vcpus in [1, 2, 8, 64] {
            let holds = (0..<vcpus).map(Self.holds(ofVCPU:))
            let rests = holds.map { [UInt64](repeating: 500_000, count: $0.count) }
            for timesInKernel in [true, false] {
                let outcome = try HeldFaults(holds: holds, rests: rests).run(
                    timesInKernel: timesInKernel)
                var worst = 0.0
                for (vcpu, truths) in outcome.truths.enumerated() {
                    let truth: UInt64 = truths.reduce(0) {
                        $0 + $1.placed - min($1.start, $1.placed)
                    }
                    let told = outcome.report.vcpus[vcpu].nanoseconds
                    worst = max(worst, abs(Double(truth) - Double(told)))
                }
                let total = Double(holds[0].reduce(0, +))
                print(
                    "\(vcpus) vCPUs held, timed \(timesInKernel ? "by the kernel" : "when read"): "
                        + "at most \(one(worst / 8_000)) us a wait off, "
                        + "\(two(worst / total * 100)) % of a vCPU's blocktime")
            }
        }
    }

    private func nanosecondsPerFault(isTimed: Bool) throws -> Double {
        let guest = try BenchGuest(memoryBytes: UInt64(Self.faultCount) << 12)
        guest.ram.avoidHugePages()
        let clock = FaultClock(threads: isTimed ? [currentThreadID()] : [])
        let start = Monotonic.now()
        for page in 0..<UInt64(Self.faultCount) { guest.ram.storeWord(1, at: page << 12) }
        let end = Monotonic.now()
        if isTimed {
            precondition(clock.summary.timedThreads == 1, "the kernel times no faults here")
        }
        return Double(end - start) / Double(Self.faultCount)
    }
}
