internal import Postcopy
internal import ArgumentParser
internal import Glibc
internal import TestWorkload

/// `postcopy receive`: the destination half.
struct ReceiveCommand: ParsableCommand {
    static let name = "receive"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Waits for a 'postcopy send', takes its workload over and verifies it.")

    @Argument(
        help: "Where to listen: tcp:HOST:PORT (port 0: a free one) or unix:PATH.",
        transform: ChannelAddress.init(parsing:))
    var uri: ChannelAddress

    @OptionGroup(title: "Memory") var memory: MemoryOptions
    @OptionGroup var side: SideOptions
    @OptionGroup var arrival: ArrivalOptions
    @OptionGroup(title: "Report") var report: ReportOptions

    @Flag(help: .hidden)
    var child = false

    func run() throws {
        try Machine.checkDescriptors()
        let plan = try MemoryPlan(memory)
        let options = try side.link.migrationOptions(preempt: true, heals: arrival.heal)
        let output = try ReportOutput(report, isChild: child)
        try plan.checkRoom(sides: 1)
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        if child { followParent(leftovers) }
        let machine = Machine.figures()
        let destination = DestinationSide(
            plan: plan, options: options, runOn: side.runOn, console: output.console,
            leftovers: leftovers)
        let outcome = try destination.receive(at: uri)
        let document = ReportDocument(
            command: Self.name, destination: outcome.report, ending: outcome.ending,
            memory: MemoryFigures(plan),
            workload: outcome.ending.specification.map { WorkloadFigures($0, plan) },
            channels: ChannelFigures(
                uri: "\(outcome.address)", transport: uri.transport, preempt: nil),
            machine: machine)
        guard outcome.isStuck else { return try output.finish(document) }
        leftovers.remove()
        withExtendedLifetime(outcome) { Self.endStuck(output, document) }
    }

    /// Threads in missing pages cannot be joined, only ended with their process.
    private static func endStuck(_ output: ReportOutput, _ document: ReportDocument) -> Never {
        do {
            try output.finish(document)
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
    }
}
