internal import Postcopy
internal import ArgumentParser
internal import Glibc
internal import TestWorkload

/// `postcopy receive`: the destination half.
struct ReceiveCommand: ParsableCommand {
    static let name = "receive"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Waits for a 'postcopy send' and takes its workload over, or for a QEMU.",
        discussion: """
            A workload is verified here. With --from-qemu the source is a QEMU with postcopy-ram on \
            ('migrate -d tcp:HOST:PORT', then 'migrate_start_postcopy'); its machine does not run \
            here but is parked, and 'postcopy send --from-park' hands it on.
            """)

    @Argument(
        help: "Where to listen: tcp:HOST:PORT (port 0: a free one) or unix:PATH.",
        transform: ChannelAddress.init(parsing:))
    var uri: ChannelAddress

    @OptionGroup(title: "Memory") var memory: MemoryOptions
    @OptionGroup var side: SideOptions
    @OptionGroup var arrival: ArrivalOptions
    @OptionGroup(title: "A machine of QEMU") var park: ParkOptions
    @OptionGroup(title: "Report") var report: ReportOptions
    @OptionGroup(title: "Faults") var recording: RecordingOptions
    @OptionGroup var metrics: MetricsOptions

    @Flag(help: .hidden)
    var child = false

    @Option(help: .hidden)
    var parent: String?

    func run() throws {
        try Machine.checkDescriptors()
        try park.check(memory, heals: arrival.heal)
        if park.fromQEMU { return try receiveMachine() }
        let plan = try MemoryPlan(memory)
        var options = try side.link.migrationOptions(preempt: true, heals: arrival.heal)
        options.timesFaultsInKernel = !arrival.noFaultClock
        try side.recovery.apply(to: &options)
        let output = try ReportOutput(report, recording: recording, isChild: child)
        try plan.checkRoom(sides: 1)
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        if child { followParent(leftovers) }
        _ = try metrics.serve(output.console, leftovers)
        let samples = SampleRecorder(isShared: child)
        let control = try control(output, leftovers)
        let machine = Machine.figures()
        let destination = DestinationSide(
            plan: plan, options: options, runOn: side.runOn, console: output.console,
            leftovers: leftovers, control: control, samples: samples, isChild: child)
        let outcome = try destination.receive(at: uri)
        var document = ReportDocument(
            command: Self.name, destination: outcome.report, ending: outcome.ending,
            memory: MemoryFigures(plan),
            workload: outcome.ending.specification.map { WorkloadFigures($0, plan) },
            channels: ChannelFigures(
                uri: "\(outcome.address)", transport: uri.transport, preempt: nil),
            machine: machine)
        document.samples = samples.samples
        let faultLog = outcome.report.faultLog
        guard outcome.isStuck else { return try output.finish(document, faultLog: faultLog) }
        leftovers.remove()
        withExtendedLifetime(outcome) { Self.endStuck(output, document, faultLog) }
    }

    private func receiveMachine() throws {
        var options = try side.link.migrationOptions(preempt: true)
        try side.recovery.apply(to: &options)
        let output = try ReportOutput(report, recording: recording)
        let figures = Machine.figures()
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        let isServed = try metrics.serve(output.console, leftovers)
        let samples = SampleRecorder(isShared: false)
        let receiver = MachineReceiver(
            options: options, park: park, console: output.console, leftovers: leftovers,
            control: try control(output, leftovers), samples: samples, hasMetrics: isServed)
        let outcome = try receiver.receive(at: uri)
        var document = ReportDocument(
            command: Self.name, destination: outcome.report,
            memory: MemoryFigures(outcome.machine),
            channels: ChannelFigures(
                uri: "\(outcome.address)", transport: uri.transport, preempt: nil),
            machine: figures)
        document.guest = GuestFigures(outcome.machine, park: outcome.parkedAt)
        document.samples = samples.samples
        try output.finish(document, faultLog: outcome.report.faultLog)
    }

    private func control(_ output: ReportOutput, _ leftovers: Leftovers) throws -> ControlPoint {
        try ControlPoint(
            side.control, .init(command: Self.name, side: .destination), parent: parent,
            console: output.console, leftovers: leftovers)
    }

    /// Threads in missing pages cannot be joined, only ended with their process.
    private static func endStuck(
        _ output: ReportOutput, _ document: ReportDocument, _ faultLog: FaultLog?
    ) -> Never {
        do {
            try output.finish(document, faultLog: faultLog)
        } catch let refusal as Refusal {
            ProblemLine.write(refusal.description)
        } catch {
            // The exit status, which is this one.
        }
        Glibc._exit(ExitCode.failure.rawValue)
    }

    /// The parent alone hears the terminal, and takes this process with it.
    private func followParent(_ leftovers: Leftovers) {
        signal(SIGINT, SIG_IGN)
        Interruption.followStandardInput()
        if case .unix(let path) = uri { PrivateFolder.adopt(socket: path, leftovers: leftovers) }
        if let log = recording.faultLog { PrivateFolder.adopt(faultLog: log, leftovers: leftovers) }
    }
}
