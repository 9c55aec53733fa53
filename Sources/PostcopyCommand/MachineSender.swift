internal import Parking
internal import Postcopy

/// `send --from-park`: a parked machine goes to a QEMU that waits for it.
struct MachineSender {
    let options: MigrationOptions
    let console: Console

    func send(_ machine: ParkedMachine, to address: ChannelAddress) throws -> SourceReport {
        let migration: MigrationSource
        do { migration = try MigrationSource(guest: machine, options: options) } catch {
            throw Refusal.environment("migration cannot begin: \(error)")
        }
        if options.precopy == nil { migration.startPostcopy() }
        var rate = RateMeter()
        var stop = StopRequest(console: console, subject: "the migration")
        let report = try Attendance.run("pc-source") {
            migration.run(to: address)
        } attend: {
            let progress = migration.progress
            stop.heed {
                migration.cancel()
                console.note(
                    progress.status.isAfterSwitch
                        ? "the machine has moved and cannot be called back; interrupt again to "
                            + "abandon it"
                        : "cancelling")
            }
            rate.note(progress.sentBytes.total, at: Monotonic.now())
            console.show(Progress(progress, bytesPerSecond: rate.bytesPerSecond))
        }
        console.clear()
        return report
    }
}
