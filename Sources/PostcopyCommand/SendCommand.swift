internal import ArgumentParser
internal import Postcopy
internal import TestWorkload

/// `postcopy send`: the source half.
struct SendCommand: ParsableCommand {
    static let name = "send"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Runs a workload here and migrates it to a 'postcopy receive'.",
        discussion: """
            The exit status is 0 when the destination has every page and runs the workload. The \
            memory is verified there afterwards: 'postcopy receive' reports it, by its exit status \
            as well. A workload that stays here is verified here.
            """)

    @Argument(
        help: "Where 'postcopy receive' listens: tcp:HOST:PORT or unix:PATH.",
        transform: ChannelAddress.init(parsing:))
    var uri: ChannelAddress

    @OptionGroup(title: "Memory") var memory: MemoryOptions
    @OptionGroup(title: "Workload") var workload: WorkloadOptions
    @OptionGroup var timing: TimingOptions
    @OptionGroup(title: "Precopy") var switchover: SwitchoverOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
    @OptionGroup var side: SideOptions
    @OptionGroup(title: "Report") var report: ReportOptions

    @Flag(help: "Sends urgent pages in the one channel instead of one of their own.")
    var noPreempt = false

    func run() throws {
        try Machine.checkDescriptors()
        try uri.checkIsTarget()
        let plan = try MemoryPlan(memory)
        let specification = try workload.specification(memoryBytes: plan.lengthBytes)
        var options = try side.link.migrationOptions(preempt: !noPreempt)
        try switchover.apply(to: &options, warmUp: timing.warmUp)
        limits.apply(to: &options)
        let output = try ReportOutput(report)
        try plan.checkRoom(sides: 1)
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        let machine = Machine.figures()
        let source = SourceSide(
            plan: plan, specification: specification, options: options, warmUp: timing.warmUp,
            runOn: side.runOn, console: output.console, leftovers: leftovers)
        let (sourceReport, ending) = try source.migrate(try plan.makeRAM(), to: uri)
        try output.finish(
            ReportDocument(
                command: Self.name, source: sourceReport, ending: ending,
                memory: MemoryFigures(plan), workload: WorkloadFigures(specification, plan),
                channels: ChannelFigures(
                    uri: "\(uri)", transport: uri.transport, preempt: !noPreempt),
                machine: machine))
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
