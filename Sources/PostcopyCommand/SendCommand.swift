internal import ArgumentParser
internal import Parking
internal import Postcopy
internal import TestWorkload

/// `postcopy send`: the source half.
struct SendCommand: ParsableCommand {
    static let name = "send"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Runs a workload here and migrates it, or hands on a parked machine.",
        discussion: """
            The exit status is 0 when the destination has every page and runs the workload. The \
            memory is verified there afterwards: 'postcopy receive' reports it, by its exit status \
            as well. A workload that stays here is verified here.

            With --from-park the destination is a QEMU that waits with -incoming, the same machine \
            and postcopy-ram on, or another 'postcopy'.
            """)

    @Argument(
        help: "Where the destination listens: tcp:HOST:PORT or unix:PATH.",
        transform: ChannelAddress.init(parsing:))
    var uri: ChannelAddress

    @OptionGroup(title: "Memory") var memory: MemoryOptions
    @OptionGroup(title: "Workload") var workload: WorkloadOptions
    @OptionGroup var timing: TimingOptions
    @OptionGroup(title: "Precopy") var switchover: SwitchoverOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
    @OptionGroup var side: SideOptions
    @OptionGroup(title: "Report") var report: ReportOptions
    @OptionGroup(title: "Faults") var recording: RecordingOptions
    @OptionGroup var metrics: MetricsOptions

    @Option(
        help: "Where else the destination may be reached when the link breaks; may be repeated.",
        transform: ChannelAddress.init(parsing:))
    var address: [ChannelAddress] = []

    @OptionGroup var urgent: UrgentOptions

    @Option(help: "Hands on the machine that is parked in DIR, instead of a workload.")
    var fromPark: String?

    @Flag(help: "Hands the machine on although it was handed on before.")
    var again = false

    func run() throws {
        try Machine.checkDescriptors()
        try uri.checkIsTarget()
        if let fromPark { return try send(parked: fromPark) }
        guard !again else {
            throw Refusal.usage("--again is about a parked machine: add --from-park")
        }
        let plan = try MemoryPlan(memory)
        let specification = try workload.specification(memoryBytes: plan.lengthBytes)
        var options = try side.link.migrationOptions(preempt: !urgent.noPreempt)
        try switchover.apply(to: &options, warmUp: timing.warmUp)
        limits.apply(to: &options)
        try side.recovery.apply(to: &options, addresses: address)
        let output = try ReportOutput(report, recording: recording)
        try plan.checkRoom(sides: 1)
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        _ = try metrics.serve(output.console, leftovers)
        let control = try ControlPoint(
            side.control, .init(command: Self.name, side: .source), console: output.console,
            leftovers: leftovers)
        let samples = SampleRecorder(isShared: false)
        let machine = Machine.figures()
        let source = SourceSide(
            plan: plan, specification: specification, options: options, warmUp: timing.warmUp,
            runOn: side.runOn, console: output.console, leftovers: leftovers, control: control,
            samples: samples)
        let (sourceReport, ending) = try source.migrate(try plan.makeRAM(), to: uri)
        var document = ReportDocument(
            command: Self.name, source: sourceReport, ending: ending,
            memory: MemoryFigures(plan), workload: WorkloadFigures(specification, plan),
            channels: ChannelFigures(
                uri: "\(uri)", transport: uri.transport, preempt: !urgent.noPreempt),
            machine: machine)
        document.samples = samples.samples
        try output.finish(document, faultLog: sourceReport.faultLog)
    }

    private func send(parked path: String) throws {
        guard memory.isDefault else {
            throw Refusal.usage(
                "--from-park takes the memory that the machine has: leave out --memory")
        }
        let output = try ReportOutput(report, recording: recording)
        let park: ParkDirectory
        let machine: ParkedMachine
        do throws(ParkError) {
            park = try ParkDirectory(opening: path)
            machine = try park.makeMachine()
        } catch { throw Refusal.environment("\(error)") }
        var options = try side.link.migrationOptions(preempt: !urgent.noPreempt)
        options.preemptTiming = urgent.timing(for: machine.machineType)
        try switchover.apply(to: &options, warmUp: TimeSpan(nanoseconds: 0))
        limits.apply(to: &options)
        try side.recovery.apply(to: &options, addresses: address)
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        _ = try metrics.serve(output.console, leftovers)
        let control = try ControlPoint(
            side.control, .init(command: Self.name, side: .source), console: output.console,
            leftovers: leftovers)
        let samples = SampleRecorder(isShared: false)
        let figures = Machine.figures()
        // Before the first byte: whatever ends this process, the machine is not sent a second time.
        do throws(ParkError) { try park.noteHandedOn(to: "\(uri)", again: again) } catch {
            throw Refusal.environment("\(error)")
        }
        let result: SourceReport
        do {
            result = try MachineSender(
                options: options, console: output.console, leftovers: leftovers,
                control: control, samples: samples
            ).send(machine, to: uri)
        } catch {
            park.takeBackHandedOn()
            throw error
        }
        if result.guestRunsHere { park.takeBackHandedOn() }
        var document = ReportDocument(
            command: Self.name, source: result, memory: MemoryFigures(machine),
            channels: ChannelFigures(
                uri: "\(uri)", transport: uri.transport, preempt: !urgent.noPreempt),
            machine: figures)
        document.guest = GuestFigures(machine, park: path)
        document.samples = samples.samples
        try output.finish(document, faultLog: result.faultLog)
    }
}

extension ChannelAddress {
    var transport: String {
        switch self {
        case .tcp: "tcp"
        case .unix: "unix"
        }
    }
}
