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
        var isCancelled = false
        let report = try Attendance.run("pc-source") {
            migration.run(to: address)
        } attend: {
            let progress = migration.progress
            heedInterruption(migration, progress.status, &isCancelled)
            rate.note(progress.sentBytes.total, at: Monotonic.now())
            console.show(Progress(progress, bytesPerSecond: rate.bytesPerSecond))
        }
        console.clear()
        return report
    }

    private func heedInterruption(
        _ migration: MigrationSource, _ status: MigrationStatus, _ isCancelled: inout Bool
    ) {
        guard Interruption.heed() else { return }
        guard !isCancelled else {
            console.clear()
            ProblemLine.write("interrupted again: the migration is abandoned")
            Leftovers().removeAndExit(Interruption.exitStatus)
        }
        isCancelled = true
        migration.cancel()
        console.note(
            status.isAfterSwitch
                ? "the machine has moved and cannot be called back; interrupt again to abandon it"
                : "cancelling")
    }
}
