import MigrationCore
import PageModel
import Synchronization
import TestSupport

/// One of the two processes, or nobody's.
enum Side: Int { case source, destination, nobody }

/// One thread, or what acts like one: its steps take some time each, and those of others come between.
class Worker {
    unowned let world: World
    let name: String
    let side: Side
    let index: Int
    /// When it is due to go on.
    fileprivate(set) var dueAt = Int.max

    init(_ world: World, _ name: String, _ side: Side) {
        self.world = world
        self.name = name
        self.side = side
        index = world.count
        world.add(self)
    }

    func step() {}

    /// Goes on after one step's time.
    final func goOn() { world.wake(self, at: world.now + world.stepTime()) }

    final func goOn(at instant: Int) { world.wake(self, at: instant) }
}

/// What was broken.
public struct Violation: Equatable, Sendable {
    public let law: String
    public let detail: String
}

/// Everything that a simulated migration consists of, and its clock.
final class World {
    let scenario: Scenario
    private(set) var now = 0
    private var random: SeededRandom
    private var agenda = Agenda()
    private var workers: [Worker] = []
    private(set) var violation: Violation?
    private(set) var trace: Trace
    var tally = Tally()
    /// Until when each side stands still, and what made it so.
    private var frozen: [(until: Int, by: Trouble?)] = [(0, nil), (0, nil), (0, nil)]
    var parts: Parts!

    /// What the workers are to each other.
    struct Parts {
        let guest: GuestModel
        let source: SourceSide
        let destination: DestinationSide
        let saboteur: Saboteur

        /// What holds after every step.
        func check() {
            guest.check()
            guest.check(destination.demand.received)
        }
    }

    init(seed: UInt64, limits: Limits, traces: Bool) {
        scenario = Scenario(seed: seed, limits: limits)
        random = SeededRandom(seed: seed)
        trace = Trace(isOn: traces)
        let guest = GuestModel(self)
        let source = SourceSide(self)
        parts = Parts(
            guest: guest, source: source, destination: DestinationSide(self),
            saboteur: Saboteur(self))
        guest.begin()
        source.begin()
    }

    var count: Int { workers.count }

    func add(_ worker: Worker) { workers.append(worker) }

    func wake(_ worker: Worker, at instant: Int) {
        guard instant < worker.dueAt else { return }
        worker.dueAt = instant
        agenda.add(worker.index, at: instant)
    }

    /// How long one step takes: mostly little, and now and then another thread has the core.
    func stepTime() -> Int {
        switch random.below(100) {
        case 0..<80: 300 + random.below(4 * Time.microsecond)
        case 80..<98: random.below(100 * Time.microsecond)
        default: random.below(4 * Time.millisecond)
        }
    }

    func delay() -> Int {
        let range = scenario.delay
        return range.lowerBound + random.below(range.count)
    }

    /// A number below `bound`, by the seed.
    func draw(_ bound: Int) -> Int { random.below(bound) }

    func drawWord() -> UInt64 { random.next() }

    func fail(_ law: String, _ detail: @autoclosure () -> String) {
        guard violation == nil else { return }
        violation = Violation(law: law, detail: detail())
        trace.add(now, "VIOLATION", "\(law): \(violation?.detail ?? "")")
    }

    func note(_ who: String, _ what: @autoclosure () -> String) {
        if trace.isOn { trace.add(now, who, what()) }
    }

    func freeze(_ side: Int, until instant: Int, _ trouble: Trouble) {
        if frozen[side].until < instant { frozen[side] = (instant, trouble) }
    }

    func reached(_ moment: Moment) {
        note("moment", "\(moment)")
        parts.saboteur.reached(moment)
    }

    private static let stepsMax = 400_000

    func run() {
        var steps = 0
        while violation == nil, let entry = agenda.next() {
            let worker = workers[entry.worker]
            guard entry.at == worker.dueAt else { continue }
            now = entry.at
            worker.dueAt = .max
            let frozen = frozen[worker.side.rawValue]
            guard frozen.until <= now else {
                frozen.by?.touch()
                wake(worker, at: frozen.until + random.below(50 * Time.microsecond))
                continue
            }
            worker.step()
            steps += 1
            parts.check()
            if parts.source.hasEnded && parts.destination.hasEnded { return conclude() }
            if now > Time.ended || steps > Self.stepsMax { return judgeDelay() }
        }
        if violation == nil { judgeDelay() }
    }

    /// Takes the circles of references apart.
    func end() {
        workers = []
        frozen = []
        parts = nil
    }

    private func judgeDelay() {
        fail(
            "the migration ends",
            "source \(parts.source.phase), destination \(parts.destination.phase) after "
                + "\(now / Time.millisecond) ms; \(parts.guest.waitingCount) threads wait, "
                + "\(parts.destination.demand.missing.load(ordering: .relaxed)) pages missing")
    }

    private func conclude() {
        tally.migrations += 1
        if !parts.saboteur.hasTouched {
            tally.withoutFault += 1
            fail("no migration goes untroubled", "none of its faults touched anything")
        }
        let (source, destination) = (parts.source.phase, parts.destination.phase)
        switch source {
        case .completed:
            tally.completed += 1
            guard destination == .completed else {
                return fail("both sides tell one story", "source \(source), \(destination)")
            }
            parts.guest.compare()
        case .failed, .cancelled:
            tally.stayed += 1
            guard [.failed, .none].contains(destination.name), parts.guest.runsAtSource else {
                return fail("both sides tell one story", "source \(source), \(destination)")
            }
        default: fail("both sides tell one story", "source \(source), \(destination)")
        }
    }
}

/// The last events, for a person.
struct Trace {
    let isOn: Bool
    private(set) var lines: [String] = []

    init(isOn: Bool) { self.isOn = isOn }

    mutating func add(_ now: Int, _ who: String, _ what: String) {
        guard isOn else { return }
        let time = String(now / Time.microsecond)
        let gap = String(repeating: " ", count: max(0, 9 - time.count))
        lines.append("\(gap)\(time) us  \(who): \(what)")
    }
}

/// What many migrations came to.
public struct Tally: Sendable, Equatable {
    public var migrations = 0
    public var completed = 0
    public var stayed = 0
    public var recoveries = 0
    public var breaks = 0
    public var insideRecovery = 0
    public var withoutFault = 0
    /// Hellos of the source itself that came when a later one had been let in.
    public var lateHellos = 0
    public var faults: [String: Int] = [:]

    public init() {}

    public mutating func add(_ other: Tally) {
        migrations += other.migrations
        completed += other.completed
        stayed += other.stayed
        recoveries += other.recoveries
        breaks += other.breaks
        insideRecovery += other.insideRecovery
        withoutFault += other.withoutFault
        lateHellos += other.lateHellos
        faults.merge(other.faults, uniquingKeysWith: +)
    }
}
