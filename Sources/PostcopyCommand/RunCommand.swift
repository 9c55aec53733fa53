internal import Postcopy
internal import ArgumentParser
internal import TestWorkload

/// `postcopy run`: both halves on this machine, in two processes.
struct RunCommand: ParsableCommand {
    static let name = "run"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Migrates a workload to a second process on this machine, and verifies it.")

    enum Transport: String, CaseIterable, Sendable {
        case tcp
        case unix
    }

    @OptionGroup(title: "Memory") var memory: MemoryOptions
    @OptionGroup(title: "Workload") var workload: WorkloadOptions
    @OptionGroup var timing: TimingOptions
    @OptionGroup(title: "Precopy") var switchover: SwitchoverOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
    @OptionGroup var side: SideOptions
    @OptionGroup var arrival: ArrivalOptions
    @OptionGroup(title: "Report") var report: ReportOptions
    @OptionGroup(title: "Faults") var recording: RecordingOptions
    @OptionGroup var metrics: MetricsOptions

    @Option(
        help: "How the two talk: \(Choices.text(Transport.self)). (default: tcp)",
        transform: Choices.parser(Transport.self, "transport"))
    var transport = Transport.tcp

    @OptionGroup var urgent: UrgentOptions
    @OptionGroup(title: "Breaking the link") var breaking: BreakOptions

    func run() throws {
        try Machine.checkDescriptors()
        let plan = try MemoryPlan(memory)
        let specification = try workload.specification(memoryBytes: plan.lengthBytes)
        var options = try side.link.migrationOptions(preempt: !urgent.noPreempt)
        let cuts = try breaking.plan()
        try switchover(cuts).apply(to: &options, warmUp: timing.warmUp)
        limits.apply(to: &options)
        try side.recovery.apply(to: &options)
        let output = try ReportOutput(report, recording: recording)
        try plan.checkRoom(sides: 2)
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        let childMetrics =
            try metrics.serve(output.console, leftovers)
            ? MigrationMetrics(side: .destination, pageBytes: plan.page.bytes) : nil
        let samples = SampleRecorder(isShared: true)
        let machine = Machine.figures()
        let control = try ControlPoint(
            side.control, .init(command: Self.name, side: .source), console: output.console,
            leftovers: leftovers)
        let ram = try plan.makeRAM()
        let handOver = try FaultLogHandOver(leftovers: leftovers, isAsked: recording.isAsked)
        let destination = try DestinationProcess(
            arguments: arguments(plan, control, leftovers) + handOver.arguments,
            metrics: childMetrics)
        leftovers.add { destination.kill() }
        let address = try destination.address()
        output.console.note("destination is process \(destination.processID) at \(address)")
        control.desk.noteDestination(
            pid: destination.processID, control: childControl(control, destination.processID))
        let peer = try peer(destination, at: address, cuts, leftovers)
        let source = SourceSide(
            plan: plan, specification: specification, options: options, warmUp: timing.warmUp,
            runOn: side.runOn, console: output.console, leftovers: leftovers, control: control,
            samples: samples, peer: peer)
        let (sourceReport, ending) = try source.migrate(ram, to: peer.breaker?.address ?? address)
        let other = conclude(destination, sourceReport, plan, output.console, leftovers)
        var document = ReportDocument(
            command: Self.name, source: sourceReport, ending: ending,
            memory: MemoryFigures(plan), workload: WorkloadFigures(specification, plan),
            channels: ChannelFigures(
                uri: "\(address)", transport: transport.rawValue, preempt: !urgent.noPreempt),
            machine: machine)
        document.samples = samples.samples
        if let figures = other.document { document.add(destination: figures) }
        document.note(other.problem)
        if let breaker = peer.breaker { document.add(breaker, asked: cuts?.times) }
        let faultLog = handOver.joined(with: sourceReport.faultLog)
        if let faultLog { document.explain(by: faultLog) }
        leftovers.remove()
        try output.finish(document, faultLog: faultLog)
    }

    /// A link can only be cut for all to see while pages are owed.
    private func switchover(_ cuts: BreakPlan?) -> SwitchoverOptions {
        guard cuts != nil, switchover.isUsual else { return switchover }
        var result = switchover
        result.noPrecopy = true
        return result
    }

    /// The destination, with somebody before it who cuts it off where that is asked for.
    private func peer(
        _ destination: DestinationProcess, at address: ChannelAddress, _ cuts: BreakPlan?,
        _ leftovers: Leftovers
    ) throws -> RunPeer {
        guard let cuts else { return RunPeer(destination, breaker: nil, plan: nil) }
        let breaker: LinkBreaker
        do { breaker = try LinkBreaker(between: place(leftovers), and: address) } catch {
            throw Refusal.environment("no proxy to break the link: \(error)")
        }
        leftovers.add { breaker.end() }
        return RunPeer(destination, breaker: breaker, plan: cuts)
    }

    /// Where the destination's control socket is: beside ours, or where its own default is.
    private func childControl(_ control: ControlPoint, _ pid: Int32) -> String? {
        guard let path = control.path else { return nil }
        guard side.control.control == nil else { return Self.childPath(path) }
        let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        return ControlPlace.path(in: folder.joined(separator: "/"), of: pid)
    }

    private static func childPath(_ path: String) -> String { "\(path).destination" }

    /// The destination works on after the last page; one that failed ends soon or is ended.
    private func conclude(
        _ destination: DestinationProcess, _ source: SourceReport, _ plan: MemoryPlan,
        _ console: Console, _ leftovers: Leftovers
    ) -> DestinationProcess.Ending {
        if source.isAbandoned { destination.leaveAlone() }
        let grace = side.link.silenceLimit.nanoseconds + 2_000_000_000
        let patience: DestinationProcess.Patience =
            switch source.status {
            case .completed:
                .silence(nanoseconds: grace + Self.quietNanosecondsMax(side.runOn, plan))
            // It waits for a source that never came.
            case .cancelled where !source.wasConnected: .none
            default: .total(nanoseconds: grace)
            }
        return destination.end(patience) {
            if Interruption.heed() {
                console.clear()
                ProblemLine.write("interrupted")
                leftovers.removeAndExit(Interruption.exitStatus)
            }
            let standing = destination.progress?.status ?? .completed
            let word =
                standing == .completed ? destination.lastLine ?? "waiting" : standing.rawValue
            console.show(Progress(phase: "destination: \(word)", fraction: nil))
        }
    }

    /// How long a destination that works may say nothing. Verification speaks every second; the
    /// workload that runs on does not, nor does the kernel when it gives memory back at the end,
    /// for which a second per GiB is generous.
    private static func quietNanosecondsMax(_ runOn: TimeSpan, _ plan: MemoryPlan) -> UInt64 {
        runOn.nanoseconds + (plan.lengthBytes >> 30) * 1_000_000_000
    }

    /// Where one of the two, or a proxy, can listen.
    private func place(_ leftovers: Leftovers) throws -> ChannelAddress {
        switch transport {
        case .tcp: .tcp(host: "127.0.0.1", port: 0)
        case .unix: .unix(path: try PrivateFolder(leftovers: leftovers).socketPath)
        }
    }

    private func arguments(
        _ plan: MemoryPlan, _ control: ControlPoint, _ leftovers: Leftovers
    ) throws -> [String] {
        let own = side.control.control.map { ["--control", Self.childPath($0)] } ?? []
        return [
            "\(try place(leftovers))", "--memory", "\(plan.lengthBytes)", "--backing",
            plan.backing.rawValue,
            "--page-size", "\(plan.page.bytes)", "--run-on", "\(side.runOn.nanoseconds / 1000)us",
            "--silence-limit", "\(side.link.silenceLimit.nanoseconds / 1000)us", "--json", "-",
            "--child", "--parent=\(control.name)",
        ] + own + side.recovery.arguments + (memory.lockMemory ? ["--lock-memory"] : [])
            + (arrival.heal ? ["--heal"] : [])
            + (arrival.noFaultClock ? ["--no-fault-clock"] : [])
    }
}
