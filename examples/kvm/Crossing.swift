import Postcopy
import Synchronization

/// A migration of a machine: all that a VMM has to do with the library.
enum Crossing {
    /// All memory is sent once, then what was written meanwhile; then the guest moves.
    static func options(breaks: Int = 0) throws -> MigrationOptions {
        var options = MigrationOptions()
        options.precopy = PrecopyOptions()
        // The rest is not sent before the guest moves, however little it is.
        options.precopy?.switchover = try SwitchoverSettings(
            downtimeLimitNanoseconds: nil, switchAfterRounds: 2, isAutomatic: false)
        // A cut must find something that is still to come, also on a busy host.
        if breaks > 0 { options.maxPostcopyBandwidth = 32 << 20 }
        return options
    }

    /// Moves a guest between two machines of this process.
    static func move(
        _ machine: FlatMachine, to next: FlatMachine, breaks: Int
    ) throws -> (sent: SourceReport, received: DestinationReport) {
        let destination = try MigrationDestination(guest: next, options: options())
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        try destination.start(on: listener)
        let sent = Result { try send(machine, to: address, breaks: breaks) }
        // Or it would wait for somebody who never comes.
        if (try? sent.get())?.status != .completed { destination.cancel() }
        let received = try destination.wait()
        return (try sent.get(), received)
    }

    /// Hands a machine over. Its vCPUs stand still afterwards, unless the guest stayed here.
    /// - Parameter breaks: how often the link is cut once the guest has moved, and taken up again.
    static func send(
        _ machine: FlatMachine, to address: ChannelAddress, breaks: Int
    ) throws -> SourceReport {
        let source = try MigrationSource(guest: machine, options: options(breaks: breaks))
        let left = Mutex(breaks)
        try source.observe { progress in
            // Told in order, and perhaps late: a pause is refused once everything is there.
            switch progress.status {
            case .postcopyActive:
                left.withLock { left in if left > 0, source.pause() { left -= 1 } }
            case .postcopyPaused: source.recover()
            default: break
            }
        }
        let report = try source.run(to: address)
        guard report.breaks.count >= breaks || report.status != .completed else {
            throw GuestError("the link was cut \(report.breaks.count) times and not \(breaks)")
        }
        return report
    }

    static func text(of report: SourceReport) -> String {
        "  source: \(report.problem ?? "\(report.status)"), \(report.precopy?.owedPages ?? 0) pages "
            + "owed, downtime \((report.downtimeNanoseconds ?? 0) / 1000) us, "
            + "\(report.breaks.count) breaks"
    }

    /// With how long each vCPU waited for pages, in `KVM_RUN`.
    static func text(of report: DestinationReport) -> String {
        let vcpus = (report.blocktime?.vcpus ?? []).enumerated()
        return vcpus.reduce("  destination: \(report.problem ?? "\(report.status)"), blocktime") {
            $0 + " vcpu\($1.offset) \($1.element.nanoseconds / 1000) us,"
        } + " \(report.progress.requests) requests"
    }
}
