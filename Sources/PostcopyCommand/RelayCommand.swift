internal import ArgumentParser
internal import Glibc
internal import Parking
internal import Postcopy

/// `postcopy relay`: takes a machine from one QEMU and hands it to the next while it is arriving.
struct RelayCommand: ParsableCommand {
    static let name = "relay"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Takes a machine from a QEMU and hands it on to the next while it arrives.",
        discussion: """
            The next QEMU waits with -incoming and the same machine; both have postcopy-ram on, and \
            postcopy-preempt as --no-preempt says. What the machine needs at the next host and is \
            not here yet is asked of the first. The first QEMU may go as soon as every page is \
            here, which is said.
            """)

    @Argument(
        help: "Where to listen for the first QEMU: tcp:HOST:PORT or unix:PATH.",
        transform: ChannelAddress.init(parsing:))
    var uri: ChannelAddress

    @Argument(
        help: "Where the next QEMU listens.", transform: ChannelAddress.init(parsing:))
    var next: ChannelAddress

    @Flag(help: "Hands the machine on once every page is here. It stands still meanwhile.")
    var hold = false

    @OptionGroup var urgent: UrgentOptions
    @OptionGroup var link: LinkOptions
    @OptionGroup(title: "Report") var report: ReportOptions

    func run() throws {
        try Machine.checkDescriptors()
        try next.checkIsTarget()
        let output = try ReportOutput(report)
        let figures = Machine.figures()
        let arriving = try link.migrationOptions(preempt: true)
        let arrival = try MachineArrival(options: arriving, console: output.console).wait(at: uri)
        let stream = arrival.stream.take()
        let machine: ParkedMachine
        do throws(ParkError) {
            machine = try ParkedMachine(
                describedBy: stream.introduction, origin: "QEMU at \(arrival.address)")
        } catch { throw Refusal.environment("\(error)") }
        var options = Relay.Options()
        options.arrival = arriving
        options.departure = try link.migrationOptions(preempt: !urgent.noPreempt)
        options.departure.preemptTiming = urgent.timing(for: machine.machineType)
        options.holdsFirst = hold
        let relay: Relay
        do { relay = try Relay(of: machine, to: next, options: options) } catch {
            throw Refusal.environment("\(error)")
        }
        let result = try attend(relay, OneUse(stream), output.console)
        try output.finish(
            ReportDocument(
                relay: result, of: machine,
                channels: ChannelFigures(
                    uri: "\(next)", transport: next.transport, preempt: !urgent.noPreempt),
                machine: figures))
    }

    private func attend(
        _ relay: Relay, _ stream: OneUse<IncomingStream>, _ console: Console
    ) throws -> RelayReport {
        var view = RelayView(console: console, next: next)
        let result = try Attendance.run("pc-arrival") { () -> Result<RelayReport, Errno> in
            do throws(Errno) { return .success(try relay.run(on: stream.take())) } catch {
                return .failure(error)
            }
        } attend: {
            view.look(at: relay)
        }
        console.clear()
        do { return try result.get() } catch { throw Refusal.environment("\(error)") }
    }
}

/// What is shown of a machine on its way through.
private struct RelayView {
    let console: Console
    let next: ChannelAddress
    private var rate = RateMeter()
    private var stop: StopRequest
    private var isSourceFree = false
    private var refusal: String?

    init(console: Console, next: ChannelAddress) {
        self.console = console
        self.next = next
        stop = StopRequest(console: console, subject: "the machine")
    }

    mutating func look(at relay: Relay) {
        let (arrival, departure) = relay.progress
        let console = console
        stop.heed {
            guard arrival.status.isAfterSwitch else { return relay.cancel() }
            console.note("the machine has left the first QEMU; interrupt again to abandon it")
        }
        if arrival.status == .completed, !isSourceFree {
            isSourceFree = true
            console.note("every page is here: the host that it came from may go")
        }
        if SwitchRequest.heed(), relay.isOpen { relay.askAgain() }
        if let reason = relay.lastRefusal, reason != refusal, arrival.status.isAfterSwitch {
            refusal = reason
            console.note(
                relay.isOpen
                    ? "\(next) did not say whether it runs the machine, which is kept here "
                        + "(\(reason)): make sure that it does not run there, then 'kill -USR1 "
                        + "\(getpid())' asks again"
                    : "the machine is held here, and \(next) is asked again: \(reason)")
        }
        if let departure, departure.status.isAfterSwitch {
            rate.note(departure.sentBytes.total, at: Monotonic.now())
            console.show(Progress(departure, bytesPerSecond: rate.bytesPerSecond))
        } else if arrival.status != .none {
            rate.note(arrival.receivedBytes, at: Monotonic.now())
            console.show(Progress(arrival, bytesPerSecond: rate.bytesPerSecond))
        }
    }
}

extension ReportDocument {
    init(
        relay result: RelayReport, of machine: ParkedMachine, channels: ChannelFigures,
        machine figures: MachineFigures
    ) {
        let memory = MemoryFigures(machine)
        let arrival = ReportDocument(
            command: RelayCommand.name, destination: result.arrival, memory: memory,
            channels: channels, machine: figures)
        self.init(
            command: RelayCommand.name, source: result.departure, memory: memory,
            channels: channels, machine: figures)
        destination = arrival.destination
        ram.urgentPages = arrival.ram.urgentPages
        ram.backgroundPages = arrival.ram.backgroundPages
        guest = GuestFigures(machine)
        relay = RelayFigures(result)
        if result.isRefused {
            errorDesc =
                "\(channels.uri) did not take the machine: \(errorDesc ?? "no reason is known")"
            return
        }
        guard result.arrival.status != .completed, let problem = arrival.errorDesc else { return }
        // The way in failed first; what that did to the way out follows from it.
        status = result.isComplete ? status : arrival.status
        errorDesc = "on the way in: \(problem)"
        missing = arrival.missing
    }
}
