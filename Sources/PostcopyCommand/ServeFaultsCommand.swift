internal import ArgumentParser
internal import Glibc
internal import Postcopy

/// `postcopy serve-faults`: brings the missing pages of other processes' memory.
struct ServeFaultsCommand: ParsableCommand {
    static let name = "serve-faults"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract:
            "Brings the missing pages of another process's memory, as Firecracker asks for it.",
        discussion: """
            Firecracker resumes a microVM with "mem_backend": {"backend_type": "Uffd", \
            "backend_path": SOCKET}. The pages come from a memory file, from a parked machine, or \
            from a machine that is still leaving another host. What its balloon gives up reads as \
            zeros from then on.

            The exit status is 0 when every client was served until it ended, or until it had all of \
            its memory. Whoever hands over what is refused is no client: the next one is waited for. \
            Ctrl-C brings the clients what they lack and lets them go; a second one ends it at once. \
            A machine that has left its source and has no client yet is lost by the second one only.
            """)

    @Argument(help: "The unix socket at which the client hands its memory over.")
    var socket: String

    @OptionGroup(title: "Where pages come from") var content: ContentOptions
    @OptionGroup(title: "How they are served") var serving: ServingOptions
    @OptionGroup(title: "The link to the source (--from)") var link: LinkOptions
    @OptionGroup var recovery: RecoveryChoices
    @OptionGroup var control: ControlOptions
    @OptionGroup(title: "Report") var report: ReportOptions

    func run() throws {
        try Machine.checkDescriptors()
        try content.check()
        guard serving.clients == 1 || content.memoryFile != nil else {
            throw Refusal.usage(
                "--clients \(serving.clients) needs --memory-file: one machine must not run in "
                    + "several clients")
        }
        let options = try serving.handlerOptions()
        let output = try ReportOutput(
            report, reading: [content.memoryFile, serving.prefetch].compactMap(\.self))
        let trace = try serving.trace()
        let place = socket.hasPrefix("unix:") ? String(socket.dropFirst(5)) : socket
        let listener: Listener
        do throws(ChannelError) { listener = try Listener(at: .unix(path: place)) } catch {
            throw Refusal.environment("\(error)")
        }
        let leftovers = Leftovers()
        defer { leftovers.remove() }
        let figures = Machine.figures()
        let source = try source(output.console, leftovers)
        let server = FaultServer(
            source,
            plan: ServicePlan(
                options: options, fills: serving.fill, trace: trace, clientsMax: serving.clients,
                keepsTrace: serving.record != nil),
            console: output.console, leftovers: leftovers)
        output.console.note("serving \(source.content.description) at \(place)")
        let problem = server.run(on: listener)
        source.end(hasServed: server.outcomes.contains { $0.report != nil })
        try serving.save(server.outcomes.lazy.compactMap(\.report).first?.trace)
        let document = ServeDocument(
            socket: place, outcomes: server.outcomes, source: source, problem: problem,
            machine: figures)
        // Threads that cannot be joined may not be dropped either.
        try withExtendedLifetime(source) {
            try finish(document, output, isStuck: source.isStuck, leftovers)
        }
    }

    private func source(_ console: Console, _ leftovers: Leftovers) throws -> any PageSource {
        if let path = content.memoryFile { return try FilePageSource(memoryFile: path) }
        if let path = content.park {
            return try FilePageSource(park: path, again: content.again, servedAt: socket)
        }
        guard let uri = content.from else { fatalError("one of them was asked for") }
        var options = try link.migrationOptions(preempt: true)
        try recovery.apply(to: &options)
        let control = try ControlPoint(
            control, .init(command: Self.name, side: .destination), console: console,
            leftovers: leftovers)
        return try LivePageSource(
            at: uri, options: options, devices: content.devices, console: console,
            leftovers: leftovers, control: control)
    }

    private func finish(
        _ document: ServeDocument, _ output: ReportOutput, isStuck: Bool, _ leftovers: Leftovers
    ) throws {
        do { try output.finish(document) } catch {
            guard isStuck else { throw error }
            if let refusal = error as? Refusal { ProblemLine.write(refusal.description) }
            leftovers.removeAndExit(ExitCode.failure.rawValue)
        }
        // A source that still sends keeps its threads busy, for nobody.
        if isStuck { leftovers.removeAndExit(0) }
    }
}
