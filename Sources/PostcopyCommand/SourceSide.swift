internal import Postcopy
internal import TestWorkload

/// The source half of `run` and `send`: a workload that runs here and is handed over.
struct SourceSide {
    let plan: MemoryPlan
    let specification: WorkloadSpecification
    let options: MigrationOptions
    let warmUp: TimeSpan
    let runOn: TimeSpan
    let console: Console
    let leftovers: Leftovers
    let control: ControlPoint
    let samples: SampleRecorder
    /// The destination where this process started it.
    var peer: (any DestinationPeer)?

    /// How often the status is looked at until the guest may move: what it adds to the warm-up.
    private static let lookNanoseconds: UInt64 = 5_000_000

    /// Fills memory, starts the workload, migrates it and sees to it afterwards.
    func migrate(
        _ ram: GuestRAM, to address: ChannelAddress
    ) throws -> (report: SourceReport, ending: WorkloadEnding) {
        let guest = try WorkloadGuest(ram: ram, specification: specification)
        let host = WorkloadHost(guest: guest, console: console, leftovers: leftovers)
        console.note("seed \(specification.seed)")
        try host.begin(unless: { peer?.earlyEnd })
        let report: SourceReport
        do {
            report = try handOver(guest, to: address)
        } catch {
            _ = host.stop()
            throw Refusal.environment("migration cannot begin: \(error)")
        }
        samples.end(report)
        console.clear()
        // A destination that was never there has done nothing to the workload either.
        guard report.guestRunsHere, report.wasConnected else { return (report, host.stop()) }
        let consequence = "the workload runs on at the source"
        if report.status == .failed, let problem = report.problem {
            // Verification comes first and takes a while; what happened is known now.
            ProblemLine.write("\(problem); \(consequence)")
        } else {
            console.note(consequence)
        }
        return (report, try host.runOnAndVerify(runOn))
    }

    private func handOver(
        _ guest: WorkloadGuest, to address: ChannelAddress
    ) throws -> SourceReport {
        let migration = try MigrationSource(guest: guest, options: options)
        control.desk.put(ControlledSource(migration: migration))
        var steering = Steering(migration: migration, side: self)
        let observation = try? samples.observe(migration)
        defer { observation?.cancel() }
        return try Attendance.run("pc-source", every: Self.lookNanoseconds) {
            Result { () throws(StartRefusal) in try migration.run(to: address) }
        } attend: {
            steering.look()
        }.get()
    }

    /// What the attending thread remembers between two looks.
    private struct Steering {
        let migration: MigrationSource
        let side: SourceSide
        private var warmUntil: UInt64?
        private var isStarted = false
        private var stop: StopRequest
        private var drawnAt: UInt64 = 0
        private var rate = RateMeter()
        private var waits = RecentWaitsMeter()
        private var pauses: PauseWatch

        init(migration: MigrationSource, side: SourceSide) {
            self.migration = migration
            self.side = side
            stop = StopRequest(
                console: side.console, leftovers: side.leftovers, subject: "the migration")
            pauses = PauseWatch(mode: side.options.recovery.mode, name: side.control.name)
        }

        mutating func look() {
            let now = Monotonic.now()
            let progress = migration.progress
            startWhenWarm(progress.status, at: now)
            heedRequest(progress.status)
            let (migration, side) = (migration, side)
            stop.heed {
                migration.cancel()
                side.console.note(
                    progress.status.isAfterSwitch
                        ? side.control.adviceOnStop(progress.status) : "cancelling")
            }
            let standing = Standing(progress)
            for line in pauses.lines(standing, at: now) { side.console.insist(line) }
            if let peer = side.peer { look(at: peer, standing, progress) }
            guard now - drawnAt >= Attendance.drawNanoseconds else { return }
            drawnAt = now
            rate.note(progress.sentBytes.total, at: now)
            let destination = side.peer?.progress
            let recent = destination.map { waits.recent($0.latency, at: now) }
            side.console.show(
                Progress(
                    progress, bytesPerSecond: rate.bytesPerSecond, destination: destination,
                    waits: recent))
        }

        /// A destination that this process started is known to be gone when it is.
        private func look(
            at peer: any DestinationPeer, _ standing: Standing, _ progress: SourceProgress
        ) {
            peer.look(progress)
            for line in peer.newLines where line.hasPrefix(PauseWatch.prefix) {
                side.console.insist("destination \(line)")
            }
            if standing.isPaused, peer.earlyEnd != nil { migration.abandon() }
        }

        /// A precopy begins by itself when the workload is warm, and ends by its own policy.
        private mutating func startWhenWarm(_ status: MigrationStatus, at now: UInt64) {
            guard side.options.precopy == nil, !isStarted, status != .none, status != .setup else {
                return
            }
            guard let end = warmUntil else {
                warmUntil = now + side.warmUp.nanoseconds
                return
            }
            guard now >= end else { return }
            isStarted = true
            migration.startPostcopy()
        }

        /// SIGUSR1 moves the workload now, whatever the policy says.
        private mutating func heedRequest(_ status: MigrationStatus) {
            guard status == .active, !isStarted, SwitchRequest.heed() else { return }
            isStarted = true
            migration.startPostcopy()
        }
    }
}

/// A destination whose process was started from here.
protocol DestinationPeer {
    /// Why it is no more, when it ended before its work was done.
    var earlyEnd: String? { get }
    /// What it has said since it was last asked.
    var newLines: [String] { get }
    /// Where it stands, as it said last.
    var progress: DestinationProgress? { get }
    /// Told, again and again, how far the source is.
    func look(_ progress: SourceProgress)
}

extension ControlPoint {
    /// What the first Ctrl-C tells once the guest has moved.
    func adviceOnStop(_ status: MigrationStatus) -> String {
        guard status == .postcopyPaused || status == .postcopyRecover else {
            return "the guest has moved and cannot be called back; interrupt again to abandon it"
        }
        let orderly = path == nil ? "" : "\(command(.abandon)) gives the guest up in order; "
        return "the guest has moved and its link is down: \(orderly)interrupt again to end this "
            + "process as it is"
    }
}

extension SourceReport {
    var wasConnected: Bool { changes.contains { $0.status == .setup } }
}

extension MigrationStatus {
    /// Whether the guest may live at the destination.
    var isAfterSwitch: Bool {
        switch self {
        case .none, .setup, .active, .device, .failed, .cancelled: false
        case .postcopyDevice, .postcopyActive, .postcopyPaused, .postcopyRecover, .completed: true
        }
    }
}
