internal import Parking
internal import Postcopy

/// `send --from-park`: a parked machine goes to a QEMU that waits for it.
struct MachineSender {
    let options: MigrationOptions
    let console: Console
    let leftovers: Leftovers
    let control: ControlPoint
    let samples: SampleRecorder

    func send(_ machine: ParkedMachine, to address: ChannelAddress) throws -> SourceReport {
        let migration: MigrationSource
        do { migration = try MigrationSource(guest: machine, options: options) } catch {
            throw Refusal.environment("migration cannot begin: \(error)")
        }
        control.desk.put(ControlledSource(migration: migration))
        if options.precopy == nil { migration.startPostcopy() }
        var rate = RateMeter()
        var stop = StopRequest(
            console: console, leftovers: leftovers, subject: "the migration")
        var pauses = PauseWatch(mode: options.recovery.mode, name: control.name)
        let observation = try? samples.observe(migration)
        defer { observation?.cancel() }
        let report = try Attendance.run("pc-source") {
            Result { () throws(StartRefusal) in try migration.run(to: address) }
        } attend: {
            let progress = migration.progress
            stop.heed {
                migration.cancel()
                console.note(
                    progress.status.isAfterSwitch
                        ? control.adviceOnStop(progress.status) : "cancelling")
            }
            for line in pauses.lines(Standing(progress), at: Monotonic.now()) {
                console.insist(line)
            }
            rate.note(progress.sentBytes.total, at: Monotonic.now())
            console.show(Progress(progress, bytesPerSecond: rate.bytesPerSecond))
        }.get()
        samples.end(report)
        console.clear()
        return report
    }
}
