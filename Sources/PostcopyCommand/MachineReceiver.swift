internal import Parking
internal import Postcopy

/// `receive --from-qemu`: a machine comes and is kept, or measured and thrown away.
struct MachineReceiver {
    let options: MigrationOptions
    let park: ParkOptions
    let console: Console
    let leftovers: Leftovers
    let control: ControlPoint
    let samples: SampleRecorder
    /// Whether somebody reads metrics.
    let hasMetrics: Bool

    struct Outcome {
        let report: DestinationReport
        let machine: ParkedMachine
        let address: ChannelAddress
        /// Where it is, once it is complete there.
        let parkedAt: String?
    }

    /// How often a machine that cannot be kept is tried again: whoever frees space looks on.
    private static let retryNanoseconds: UInt64 = 1_000_000_000

    func receive(at asked: ChannelAddress) throws -> Outcome {
        do {
            let reservation = try park.park.map { path throws(ParkError) in
                try ParkDirectory.reserve(path, bytesNeeded: 0)
            }
            leftovers.add { reservation?.abandon() }
            return try receive(at: asked, into: reservation)
        } catch let error as ParkError {
            throw Refusal.environment("\(error)")
        }
    }

    private func receive(
        at asked: ChannelAddress, into reservation: ParkReservation?
    ) throws -> Outcome {
        let arrival = try MachineArrival(options: options, console: console).wait(at: asked)
        let stream = arrival.stream.take()
        let machine = try ParkedMachine(
            describedBy: stream.introduction, origin: "QEMU at \(arrival.address)",
            backing: .memfd)
        try reservation?.check(bytesNeeded: MemoryFigures(machine).totalBytes)
        let isKept = Signpost()
        let keep = keeping(machine, reservation, isKept)
        let destination: ParkingDestination
        do {
            let readers =
                park.touchThreads > 0
                ? try PageReaders(of: machine, count: park.touchThreads) : nil
            destination = try ParkingDestination(
                of: machine, options: options, readers: readers, keep: keep)
        } catch {
            throw Refusal.environment("\(error)")
        }
        control.desk.put(ControlledDestination(migration: destination, at: arrival.address))
        let report = try attend(
            destination, OneUse(stream), pageBytes: machine.memory.meanPageBytes)
        console.clear()
        return Outcome(
            report: report, machine: machine, address: arrival.address,
            parkedAt: isKept.isRaised ? reservation?.path : nil)
    }

    /// Keeps the machine, however often that takes: nobody else has it then.
    private func keeping(
        _ machine: ParkedMachine, _ reservation: ParkReservation?, _ isKept: Signpost
    ) -> @Sendable () -> Void {
        let console = console
        return {
            guard let reservation else { return }
            var problem: ParkError?
            while true {
                do throws(ParkError) {
                    try reservation.commit(machine) { done, total in
                        console.show(
                            Progress(
                                phase: "parking", fraction: Double(done) / Double(max(1, total))))
                    }
                    return isKept.raise()
                } catch {
                    if problem != error { console.note("\(error); this is tried every second") }
                    problem = error
                }
                Monotonic.sleep(untilNanoseconds: Monotonic.now() + Self.retryNanoseconds)
            }
        }
    }

    private func attend(
        _ destination: ParkingDestination, _ stream: OneUse<IncomingStream>, pageBytes: UInt64
    ) throws(Errno) -> DestinationReport {
        let metrics =
            hasMetrics ? MigrationMetrics(side: .destination, pageBytes: pageBytes) : nil
        var rate = RateMeter()
        var waits = RecentWaitsMeter()
        var stop = StopRequest(console: console, leftovers: leftovers, subject: "the machine")
        var pauses = PauseWatch(
            mode: options.recovery.mode, name: control.name, isSourceQEMU: true)
        let report = try Attendance.run("pc-destination") {
            destination.run(on: stream.take())
        } attend: {
            let progress = destination.progress
            let now = Monotonic.now()
            samples.note(SampleFigures(progress, pageBytes: pageBytes, atNs: now))
            metrics?.tell(progress)
            stop.heed {
                destination.cancel()
                // A guest that never ran here is given up by that.
                let status = destination.progress.status
                if status.isAfterSwitch {
                    console.note(control.adviceOnStopHere(status, "machine"))
                }
            }
            for line in pauses.lines(Standing(progress), at: now) {
                console.insist(line)
            }
            // From then on the parking speaks.
            guard progress.status != .completed, progress.status != .none else { return }
            rate.note(progress.receivedBytes, at: now)
            console.show(
                Progress(
                    progress, bytesPerSecond: rate.bytesPerSecond,
                    waits: waits.recent(progress.latency, at: now)))
        }
        samples.end(report, pageBytes: pageBytes)
        metrics?.tell(report)
        return report
    }
}
