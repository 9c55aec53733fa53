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

    @Option(
        help: "How the two talk: \(Choices.text(Transport.self)). (default: tcp)",
        transform: Choices.parser(Transport.self, "transport"))
    var transport = Transport.tcp

    @OptionGroup var urgent: UrgentOptions

    func run() throws {
        try Machine.checkDescriptors()
        let plan = try MemoryPlan(memory)
        let specification = try workload.specification(memoryBytes: plan.lengthBytes)
        var options = try side.link.migrationOptions(preempt: !urgent.noPreempt)
        try switchover.apply(to: &options, warmUp: timing.warmUp)
        limits.apply(to: &options)
        let output = try ReportOutput(report)
        try plan.checkRoom(sides: 2)
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        let machine = Machine.figures()
        let ram = try plan.makeRAM()
        let destination = try DestinationProcess(arguments: arguments(plan, leftovers))
        leftovers.add { destination.kill() }
        let address = try destination.address()
        output.console.note("destination is process \(destination.processID) at \(address)")
        let source = SourceSide(
            plan: plan, specification: specification, options: options, warmUp: timing.warmUp,
            runOn: side.runOn, console: output.console, leftovers: leftovers,
            destinationProblem: { destination.earlyEnd })
        let (sourceReport, ending) = try source.migrate(ram, to: address)
        let other = conclude(destination, sourceReport, plan, output.console, leftovers)
        var document = ReportDocument(
            command: Self.name, source: sourceReport, ending: ending,
            memory: MemoryFigures(plan), workload: WorkloadFigures(specification, plan),
            channels: ChannelFigures(
                uri: "\(address)", transport: transport.rawValue, preempt: !urgent.noPreempt),
            machine: machine)
        if let figures = other.document { document.add(destination: figures) }
        document.note(other.problem)
        leftovers.remove()
        try output.finish(document)
    }

    /// The destination works on after the last page; one that failed ends soon or is ended.
    private func conclude(
        _ destination: DestinationProcess, _ source: SourceReport, _ plan: MemoryPlan,
        _ console: Console, _ leftovers: Leftovers
    ) -> DestinationProcess.Ending {
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
            let word = destination.lastLine ?? "waiting"
            console.show(Progress(phase: "destination: \(word)", fraction: nil))
        }
    }

    /// How long a destination that works may say nothing. Verification speaks every second; the
    /// workload that runs on does not, nor does the kernel when it gives memory back at the end,
    /// for which a second per GiB is generous.
    private static func quietNanosecondsMax(_ runOn: TimeSpan, _ plan: MemoryPlan) -> UInt64 {
        runOn.nanoseconds + (plan.lengthBytes >> 30) * 1_000_000_000
    }

    private func arguments(_ plan: MemoryPlan, _ leftovers: Leftovers) throws -> [String] {
        let address =
            switch transport {
            case .tcp: ChannelAddress.tcp(host: "127.0.0.1", port: 0)
            case .unix:
                ChannelAddress.unix(
                    path: try PrivateFolder(leftovers: leftovers).socketPath)
            }
        return [
            "\(address)", "--memory", "\(plan.lengthBytes)", "--backing", plan.backing.rawValue,
            "--page-size", "\(plan.page.bytes)", "--run-on", "\(side.runOn.nanoseconds / 1000)us",
            "--silence-limit", "\(side.link.silenceLimit.nanoseconds / 1000)us", "--json", "-",
            "--child",
        ] + (memory.lockMemory ? ["--lock-memory"] : []) + (arrival.heal ? ["--heal"] : [])
    }
}
