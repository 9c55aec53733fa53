import Simulation
let n = UInt64(CommandLine.arguments.dropFirst().first ?? "100") ?? 100
let first = UInt64(CommandLine.arguments.dropFirst(2).first ?? "0") ?? 0
var tally = Tally()
var laws: [String: (Int, UInt64)] = [:]
let clock = ContinuousClock()
let t0 = clock.now
for seed in first..<first + n {
    let outcome = Simulator.run(seed)
    tally.add(outcome.tally)
    if let v = outcome.violation {
        let e = laws[v.law] ?? (0, seed)
        laws[v.law] = (e.0 + 1, e.1)
    }
}
print(tally, clock.now - t0)
for (law, e) in laws { print(law, e) }
if let seed = laws.values.map({ $0.1 }).min() {
    let small = Simulator.shrink(Simulator.run(seed))
    for line in small.trace.suffix(150) { print(line) }
    print(small.limits, small.violation as Any)
}
