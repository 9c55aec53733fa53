internal import Postcopy
internal import TestWorkload

/// The destination half: waits for a workload, takes it over and verifies it.
struct DestinationSide {
    let plan: MemoryPlan
    let options: MigrationOptions
    let runOn: TimeSpan
    let console: Console
    let leftovers: Leftovers
    let control: ControlPoint
    let samples: SampleRecorder
    /// The source ends this process's standard input when it goes: then nobody comes back.
    let isChild: Bool

    static let announcement = "listening on "

    struct Outcome {
        let report: DestinationReport
        let ending: WorkloadEnding
        /// Where it listened, with the port that the system chose.
        let address: ChannelAddress
        /// A guest that misses pages must find them missing to the end: were the migration let go,
        /// its vCPUs would go on with zeros.
        let guest: WorkloadGuest
        let migration: MigrationDestination

        /// vCPUs wait for pages that never come: the process can only be ended as it is.
        var isStuck: Bool {
            report.guestRunsHere && report.status != .completed && !report.isAbandoned
        }
    }

    func receive(at asked: ChannelAddress) throws -> Outcome {
        let guest = WorkloadGuest(ram: try plan.makeRAM())
        let migration: MigrationDestination
        let listener: Listener
        do {
            migration = try MigrationDestination(guest: guest, options: options)
            listener = try Listener(at: asked)
        } catch {
            throw Refusal.environment("\(error)")
        }
        let address = listener.address
        control.desk.put(ControlledDestination(migration: migration, at: address))
        console.note("\(Self.announcement)\(address)")
        let report = try takeOver(migration, OneUse(listener))
        samples.end(report, pageBytes: plan.page.bytes)
        if isChild { tellEnd(report) }
        console.clear()
        let host = WorkloadHost(guest: guest, console: console, leftovers: leftovers)
        let ending: WorkloadEnding
        if report.status == .completed {
            console.note("every page is here")
            ending = try host.runOnAndVerify(runOn)
        } else if report.guestRunsHere, !report.isAbandoned {
            ending = WorkloadEnding(specification: guest.workload?.specification)
        } else {
            ending = host.stop()
        }
        return Outcome(
            report: report, ending: ending, address: address, guest: guest, migration: migration)
    }

    /// Whoever reads along has the last figures before the workload runs on and is verified.
    private func tellEnd(_ report: DestinationReport) {
        var last = ProgressLine(
            report.progress, vcpuBlocktimeNs: report.blocktime?.vcpuNanoseconds)
        last.status = report.status.rawValue
        last.send()
    }

    private func takeOver(
        _ migration: MigrationDestination, _ place: OneUse<Listener>
    ) throws -> DestinationReport {
        var rate = RateMeter()
        var waits = RecentWaitsMeter()
        let observation = try? samples.observe(migration, pageBytes: plan.page.bytes)
        defer { observation?.cancel() }
        var stop = StopRequest(console: console, leftovers: leftovers, subject: "the guest")
        var pauses = PauseWatch(mode: options.recovery.mode, name: control.name)
        return try Attendance.run("pc-destination") {
            Result { () throws(StartRefusal) in try migration.run(on: place.take()) }
        } attend: {
            let progress = migration.progress
            stop.heed {
                migration.cancel()
                // A guest that never ran here is given up by that.
                let status = migration.progress.status
                if status.isAfterSwitch {
                    console.note(control.adviceOnStopHere(status, "guest"))
                }
            }
            let standing = Standing(progress)
            for line in pauses.lines(standing, at: Monotonic.now()) { console.insist(line) }
            if isChild, Interruption.wasAsked, standing.isPaused { migration.abandon() }
            guard progress.status != .none, progress.status != .setup else { return }
            if isChild { ProgressLine(progress).send() }
            let now = Monotonic.now()
            rate.note(progress.receivedBytes, at: now)
            console.show(
                Progress(
                    progress, bytesPerSecond: rate.bytesPerSecond,
                    waits: waits.recent(progress.latency, at: now)))
        }.get()
    }
}

extension ControlPoint {
    /// What the first Ctrl-C tells where a guest has arrived.
    func adviceOnStopHere(_ status: MigrationStatus, _ subject: String) -> String {
        guard status == .postcopyPaused || status == .postcopyRecover, path != nil else {
            return "the \(subject) lives here now; interrupt again to abandon it"
        }
        return
            "the \(subject) lives here now and its link is down: \(command(.abandon)) gives it up "
            + "in order; interrupt again to end this process as it is"
    }
}
