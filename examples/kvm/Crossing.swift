import Postcopy

/// A migration of a machine: the whole of what a VMM has to do with the library.
enum Crossing {
    /// All memory is sent once, then what was written meanwhile; then the guest moves.
    static func options() throws -> MigrationOptions {
        var options = MigrationOptions()
        var precopy = PrecopyOptions()
        // No downtime suffices to send the rest, so that there is always something left to fetch.
        precopy.switchover = try SwitchoverSettings(
            downtimeLimitNanoseconds: nil, switchAfterRounds: 2, isAutomatic: false)
        options.precopy = precopy
        return options
    }

    /// Hands a machine over. Its vCPUs stand still afterwards, unless the guest stayed here.
    /// - Parameter breaks: whether the link is cut once the guest has moved, and then taken up again.
    static func run(
        _ source: MigrationSource, to address: ChannelAddress, breaks: Bool
    ) throws(Errno) -> SourceReport {
        let isOver = try EventFlag()
        let breaker = try JoinableThread(name: "breaker") {
            if breaks { cut(source, until: isOver) }
        }
        let report = source.run(to: address)
        isOver.raise()
        breaker.join()
        return report
    }

    /// Moves a guest between two machines of this process.
    static func move(
        _ machine: FlatMachine, to next: FlatMachine, breaks: Bool
    ) throws -> (sent: SourceReport, received: DestinationReport) {
        let source = try MigrationSource(guest: machine, options: options())
        let destination = try MigrationDestination(guest: next, options: options())
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        let sending = try JoinableThread(name: "source") {
            let sent = Result { try run(source, to: address, breaks: breaks) }
            // Or it would wait for somebody who never comes.
            if (try? sent.get())?.status != .completed { destination.cancel() }
            return sent
        }
        let received = destination.run(on: listener)
        return (try sending.join().get(), received)
    }

    private static func cut(_ source: MigrationSource, until isOver: EventFlag) {
        // Refused until the guest has moved.
        while !source.pause() {
            if isOver.wait(timeoutNanoseconds: lookNanoseconds) { return }
        }
        while source.progress.status != .postcopyPaused {
            if isOver.wait(timeoutNanoseconds: lookNanoseconds) { return }
        }
        source.recover()
    }

    /// A postcopy of the smallest machine takes some ten times as long.
    private static let lookNanoseconds: UInt64 = 500_000

    /// What the source saw of it, in lines.
    static func lines(of report: SourceReport) -> [String] {
        let precopy = report.precopy.map {
            "\($0.roundCount) rounds of precopy, \($0.owedPages) pages owed at the switch, "
        }
        let downtime = report.downtimeNanoseconds.map { "downtime \(milliseconds($0)), " }
        let problem = report.problem.map { ": \($0)" }
        return [
            "source \(report.status)\(problem ?? ""): \(precopy ?? "")\(downtime ?? "")"
                + "\(report.breaks.count) breaks"
        ]
    }

    /// What the destination saw of it, with how long each vCPU waited in `KVM_RUN`.
    static func lines(of report: DestinationReport) -> [String] {
        let problem = report.problem.map { ": \($0)" }
        let vcpus = report.blocktime?.vcpus.enumerated().map { number, waits in
            "vcpu\(number) \(milliseconds(waits.nanoseconds)) in \(waits.waitCount) missing pages"
        }
        return [
            "destination \(report.status)\(problem ?? ""): \(report.progress.requests) requests, "
                + "\(report.breaks.count) breaks",
            "blocktime: \((vcpus ?? []).joined(separator: ", "))",
        ]
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> String {
        let hundredths = nanoseconds / 10_000
        return "\(hundredths / 100).\(hundredths / 10 % 10)\(hundredths % 10) ms"
    }
}
