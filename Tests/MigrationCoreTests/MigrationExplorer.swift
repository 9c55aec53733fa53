import MigrationCore

/// Visits every state that a `MigrationWorld` can reach, breadth first.
struct MigrationExplorer {
    private(set) var worlds: [MigrationWorld] = []
    private(set) var transitionCount = 0
    /// The first state that breaks a law, and the shortest way to it.
    private(set) var violation: String?

    private var origins: [(parent: Int, step: WorldStep)] = []
    private var known: [MigrationWorld: Int] = [:]
    /// From where each state is reached by a step that happens by itself.
    private var courses: [(from: Int, to: Int)] = []

    init(pages: UInt8, recovers: Bool = false, rules: Rules = Rules()) {
        let first = MigrationWorld(pages: pages, recovers: recovers)
        worlds.append(first)
        origins.append((0, .connect))
        known[first] = 0
        var index = 0
        while index < worlds.count, violation == nil {
            expand(index, rules)
            index += 1
        }
        if recovers, violation == nil { findDeadEnd() }
    }

    private mutating func expand(_ index: Int, _ rules: Rules) {
        let world = worlds[index]
        var rests = true
        for step in WorldStep.allCases {
            guard let next = world.after(step, rules) else { continue }
            transitionCount += 1
            let place = known[next] ?? worlds.count
            if step.isCourse {
                rests = false
                courses.append((index, place))
            }
            guard place == worlds.count else { continue }
            known[next] = place
            worlds.append(next)
            origins.append((index, step))
        }
        if let law = world.brokenLaw ?? (rests ? world.brokenLawAtRest : nil) {
            violation = "\(law)\n" + path(to: index) + "\n\(world)"
        }
    }

    /// A side that recovers gets from every state to an end, without a mishap and by itself.
    private mutating func findDeadEnd() {
        courses.sort { $0.to < $1.to }
        var reaches = Array(repeating: false, count: worlds.count)
        var waiting: [Int] = []
        for (index, world) in worlds.enumerated() where world.hasEnded {
            reaches[index] = true
            waiting.append(index)
        }
        while let end = waiting.popLast() {
            var place = firstCourse(to: end)
            while place < courses.count, courses[place].to == end {
                let from = courses[place].from
                if !reaches[from] { waiting.append(from) }
                reaches[from] = true
                place += 1
            }
        }
        guard let stuck = reaches.firstIndex(of: false) else { return }
        violation = "nothing leads to an end\n" + path(to: stuck) + "\n\(worlds[stuck])"
    }

    private func firstCourse(to end: Int) -> Int {
        var range = 0..<courses.count
        while !range.isEmpty {
            let middle = (range.lowerBound + range.upperBound) / 2
            range =
                courses[middle].to < end
                ? middle + 1..<range.upperBound : range.lowerBound..<middle
        }
        return range.lowerBound
    }

    private func path(to index: Int) -> String {
        var steps: [String] = []
        var index = index
        while index != 0 {
            steps.append("\(origins[index].step)")
            index = origins[index].parent
        }
        return steps.reversed().joined(separator: " > ")
    }
}

extension MigrationWorld {
    /// A law that holds in every state and is broken in this one.
    var brokenLaw: String? {
        if guestRunsAtSource && guestRunsAtDestination { return "the guest runs at both sides" }
        if source.mayRunGuestHere && destination.mayRunGuestHere { return "both sides may run it" }
        if guestRunsAtSource && !source.mayRunGuestHere && !stopPending {
            return "the source runs a guest that it may not run"
        }
        if guestRunsAtDestination != destination.mayRunGuestHere {
            return "the destination's guest is not where its phase says"
        }
        if keptStoppingGuest { return "the source kept a guest running that it had stopped" }
        if gaveUpAtSource && !guestRunsAtSource { return "the source gave up and lost the guest" }
        if source == .completed && destination != .completed { return "the source completed alone" }
        if destination == .completed && pagesMissing > 0 { return "completed with pages missing" }
        if gaveUpAtDestination && sourceTrustsCommit { return "a commit was taken back" }
        if (package == .none || package == .load) && destination.mayRunGuestHere {
            return "the guest ran without devices"
        }
        return nil
    }

    /// Whether both sides tell the same story from here on, whatever else happens; a guest that waits
    /// for its user's wish at the source has nothing to recover.
    var hasEnded: Bool {
        switch source {
        case .completed: destination == .completed
        case .none, .setup, .active, .stopping, .device, .failed, .cancelled: true
        case .sendingPackage, .postcopyDevice, .postcopyActive, .completing, .paused, .recovering:
            false
        }
    }

    /// A law that holds once nothing more happens by itself, and is broken in this state.
    var brokenLawAtRest: String? {
        if guestRunsAtSource != guestRunsAtDestination { return nil }
        return source.status == .postcopyPaused || destination.status == .postcopyPaused
            ? nil : "the guest is lost at both sides"
    }

    private var gaveUpAtSource: Bool {
        source.status == .failed || source.status == .cancelled
    }

    private var gaveUpAtDestination: Bool { destination.status == .failed }

    private var sourceTrustsCommit: Bool {
        switch source {
        case .sendingPackage(committed: true), .postcopyActive, .completing, .completed,
            .paused(.afterCommit), .paused(.afterEnd), .recovering(.afterCommit),
            .recovering(.afterEnd):
            true
        case .none, .setup, .active, .stopping, .device, .sendingPackage(committed: false),
            .postcopyDevice, .paused(.beforeCommit), .recovering(.beforeCommit), .failed,
            .cancelled:
            false
        }
    }
}
