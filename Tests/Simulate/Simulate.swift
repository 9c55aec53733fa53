import Glibc
import Simulation
import Synchronization

/// `postcopy-simulate`: runs many seeds and counts, or one and tells it.
@main
struct Simulate {
    private var seeds: UInt64 = 10_000
    private var first: UInt64 = 0
    private var seed: UInt64?
    private var limits = Limits.full
    private var workers = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    private var isTerse = false

    static func main() async {
        let clock = ContinuousClock()
        guard let command = Simulate(CommandLine.arguments.dropFirst()) else {
            print(
                "usage: postcopy-simulate [--seeds N] [--first N] [--workers N] [--terse]\n"
                    + "       postcopy-simulate --seed N\n"
                    + "       [--blocks N] [--pages N] [--vcpus N] [--faults N]")
            exit(64)
        }
        LastWords.install()
        let start = clock.now
        exit(command.seed == nil ? await command.runAll(clock, start) : command.runOne())
    }

    private init?(_ arguments: ArraySlice<String>) {
        var rest = arguments
        while let name = rest.popFirst() {
            if name == "--terse" {
                isTerse = true
                continue
            }
            guard let text = rest.popFirst(), let value = UInt64(text) else { return nil }
            switch name {
            case "--seeds": seeds = value
            case "--first": first = value
            case "--seed": seed = value
            case "--workers": workers = Int(clamping: max(1, value))
            case "--blocks": limits.blocks = Int(clamping: max(1, value))
            case "--pages": limits.pages = Int(clamping: max(1, value))
            case "--vcpus": limits.vcpus = Int(clamping: max(1, value))
            case "--faults": limits.faults = Int(clamping: max(1, value))
            default: return nil
            }
        }
    }

    /// Tells one seed from its first event to its last.
    private func runOne() -> Int32 {
        let outcome = Simulator.run(
            seed ?? 0, limits: limits, traces: true, announcing: LastWords.began)
        for line in outcome.trace { print(line) }
        guard outcome.violation != nil else {
            print("seed \(outcome.seed) breaks no law")
            return 0
        }
        for line in Report.failure(outcome, last: 0) { print(line) }
        return 1
    }

    private func runAll(_ clock: ContinuousClock, _ start: ContinuousClock.Instant) async -> Int32 {
        let campaign = Campaign(
            seeds: first..<first + seeds, limits: limits, announcing: LastWords.began)
        let (seeds, isTerse) = (seeds, isTerse)
        let told = Atomic<UInt64>(0)
        let state = await campaign.run(workers: workers) { state in
            let twentieth = state.done * 20 / max(1, seeds)
            guard !isTerse, told.max(twentieth, ordering: .relaxed).oldValue < twentieth else {
                return
            }
            print("  \(state.done) of \(seeds) after \((clock.now - start).components.seconds) s")
            fflush(nil)
        }
        let time = (clock.now - start).components
        let seconds = Double(time.seconds) + Double(time.attoseconds) / 1e18
        guard let failure = state.failure else {
            if isTerse { print("no law was broken by \(seeds) seeds") }
            if !isTerse {
                for line in Report.summary(state.tally, seconds: seconds) { print(line) }
            }
            return 0
        }
        if isTerse {
            print("\(failure.violation?.law ?? "") | \(failure.seed)")
        } else {
            print("seed \(failure.seed) failed; making it smaller")
            for line in Report.failure(
                Simulator.shrink(failure, announcing: LastWords.began))
            { print(line) }
        }
        return 1
    }
}
