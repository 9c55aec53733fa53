internal import Postcopy
internal import TestWorkload

/// The destination half: waits for a workload, takes it over and verifies it.
struct DestinationSide {
    let plan: MemoryPlan
    let options: MigrationOptions
    let runOn: TimeSpan
    let console: Console
    let leftovers: Leftovers

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
        var isStuck: Bool { report.guestRunsHere && report.status != .completed }
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
        console.note("\(Self.announcement)\(address)")
        let report = try takeOver(migration, OneUse(listener))
        console.clear()
        let host = WorkloadHost(guest: guest, console: console, leftovers: leftovers)
        let ending: WorkloadEnding
        if report.status == .completed {
            console.note("every page is here")
            ending = try host.runOnAndVerify(runOn)
        } else if report.guestRunsHere {
            ending = WorkloadEnding(specification: guest.workload?.specification)
        } else {
            ending = host.stop()
        }
        return Outcome(
            report: report, ending: ending, address: address, guest: guest, migration: migration)
    }

    private func takeOver(
        _ migration: MigrationDestination, _ place: OneUse<Listener>
    ) throws(Errno) -> DestinationReport {
        var rate = RateMeter()
        var stop = StopRequest(console: console, leftovers: leftovers, subject: "the guest")
        return try Attendance.run("pc-destination") {
            migration.run(on: place.take())
        } attend: {
            let progress = migration.progress
            stop.heed {
                migration.cancel()
                if progress.status.isAfterSwitch {
                    console.note("the guest lives here now; interrupt again to abandon it")
                }
            }
            guard progress.status != .none, progress.status != .setup else { return }
            rate.note(progress.receivedBytes, at: Monotonic.now())
            console.show(Progress(progress, bytesPerSecond: rate.bytesPerSecond))
        }
    }
}
