internal import Postcopy
internal import Synchronization

/// How each client is served.
struct ServicePlan: Sendable {
    var options: FaultHandlerOptions
    /// Whether all pages are brought, and a client that has them is let go.
    var fills: Bool
    /// What is brought first.
    var trace: FaultTrace?
    /// After so many clients it is over; 0: never.
    var clientsMax: Int
    /// Whether somebody wants to know which pages a client needed first.
    var keepsTrace: Bool
}

/// Takes clients in and serves them, each on threads of its own, until enough were served.
///
/// Somebody who interrupts it has the clients brought all that they lack, so that they can be let go;
/// who interrupts it again leaves them without the pages that are missing.
final class FaultServer {
    private let source: any PageSource
    private let plan: ServicePlan
    private let console: Console
    private let leftovers: Leftovers
    private var services: [ClientService] = []
    private(set) var outcomes: [ClientOutcome] = []
    /// Clients that were served and have ended, and others that have.
    private var served = 0
    private var unserved = 0
    private var isDraining = false
    private var hesitation = Hesitation.none
    /// The last reason for which somebody could not be taken in.
    private var obstacle: String?

    /// What became of an interruption while no client had a machine that may be nowhere else.
    private enum Hesitation {
        case none
        /// The machine was called off.
        case asked
        /// Too late: whoever asked knows that it would be lost.
        case told
    }

    /// Each has a handful of threads and descriptors; whoever comes later waits in the socket's queue.
    private static let atOnceMax = 32
    /// Others than clients that the report lists: a screen or two, whoever knocks.
    private static let unservedMax = 64
    private static let lookNanoseconds: UInt64 = 50_000_000
    /// Until somebody is taken in again after that could not be: descriptors or threads may be free then.
    private static let breathNanoseconds: UInt64 = 500_000_000

    init(
        _ source: any PageSource, plan: ServicePlan, console: Console, leftovers: Leftovers
    ) {
        self.source = source
        self.plan = plan
        self.console = console
        self.leftovers = leftovers
    }

    /// Serves until it is over. The socket's file is gone when nobody is taken in any more.
    /// - Returns: why nobody could be served any more; `nil` when all that were to come were.
    func run(on listener: consuming Listener) -> String? {
        var problem = acceptAll(listener)
        var isLeft = false
        while problem == nil, !isLeft, !services.isEmpty {
            if Interruption.heed() {
                isLeft = isDraining || hesitation != .none && !hasClient
                drain()
            }
            // Nobody needs what is still to come.
            if services.allSatisfy(\.isClientGone) { source.giveUp() }
            _ = services[0].hasEnded.wait(timeoutNanoseconds: Self.lookNanoseconds)
            problem = tend()
        }
        if problem != nil || isLeft {
            for service in services { service.stop() }
            source.giveUp()
        }
        for service in services {
            awaitEnd(of: service)
            finish(service)
        }
        services = []
        console.clear()
        return problem
    }

    /// Takes clients in until there were enough, somebody interrupts it, or it is over.
    private func acceptAll(_ listener: consuming Listener) -> String? {
        while plan.clientsMax == 0 || clientCount < plan.clientsMax {
            if Interruption.isWaiting, !putsOff() { return nil }
            warnOnce()
            var poller = Poller(capacity: 1)
            if hasRoom { poller.watch(listener) }
            if poller.wait(timeoutNanoseconds: Self.lookNanoseconds) > 0 { admit(listener) }
            if let problem = tend() { return problem }
        }
        return nil
    }

    /// Clients whose hand-off was taken. Whoever else connects is none, and keeps a place only until that is
    /// known.
    private var clientCount: Int { served + services.count { $0.isServed } }
    private var hasClient: Bool { clientCount > 0 }

    private var hasRoom: Bool {
        services.count < Self.atOnceMax
            && (plan.clientsMax == 0 || served + services.count < plan.clientsMax)
    }

    /// Whether an interruption ends nothing yet: no client has the machine, and it may be nowhere else.
    private func putsOff() -> Bool {
        guard hesitation == .none, !hasClient, source.machinePlace != .elsewhere else {
            return false
        }
        _ = Interruption.heed()
        hesitation = .asked
        // It stays where it is, if it is not too late for that.
        source.cancel()
        return true
    }

    private func warnOnce() {
        guard hesitation == .asked, !hasClient, source.machinePlace == .here else { return }
        hesitation = .told
        console.insist(
            "interrupted, but the machine has left its source and no client has it: a client may still "
                + "hand its memory over; interrupt again to lose the machine")
    }

    private func admit(_ listener: borrowing Listener) {
        do {
            let socket = try listener.accept()
            services.append(
                try ClientService(
                    socket, number: served + unserved + services.count + 1, content: source.content,
                    plan: plan))
            obstacle = nil
        } catch {
            // Those who are served go on, whatever lacks for one more.
            if obstacle != "\(error)" { console.insist("a client could not be taken in: \(error)") }
            obstacle = "\(error)"
            Monotonic.sleep(untilNanoseconds: Monotonic.now() + Self.breathNanoseconds)
        }
    }

    /// Has every client brought what it lacks.
    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        source.cancel()
        for service in services { service.drain() }
        console.insist(
            "interrupted: clients are brought all of their pages and then let go; interrupt again to "
                + "leave them without the pages that are missing")
    }

    /// A read that hangs keeps a client from ending; somebody who asks again need not wait for it.
    private func awaitEnd(of service: ClientService) {
        while !service.hasEnded.wait(timeoutNanoseconds: Self.lookNanoseconds) {
            guard Interruption.heed() else { continue }
            console.clear()
            ProblemLine.write("interrupted again: the clients are abandoned")
            leftovers.removeAndExit(Interruption.exitStatus)
        }
    }

    /// Looks after those that are served.
    private func tend() -> String? {
        // Asked once: one that ends meanwhile is finished the next time.
        let ended = services.filter(\.isOver)
        services.removeAll { service in ended.contains { $0 === service } }
        for service in ended { finish(service) }
        if let first = services.first(where: { $0.progress != nil }), let at = first.progress {
            console.show(Progress(serving: at, totalPages: first.totalPages, of: services.count))
        }
        return source.look()
    }

    private func finish(_ service: ClientService) {
        let outcome = service.outcome()
        console.note(outcome.line)
        if outcome.report != nil {
            served += 1
        } else {
            unserved += 1
            guard unserved <= Self.unservedMax else { return }
        }
        outcomes.append(outcome)
    }
}

extension Progress {
    init(serving progress: FaultProgress, totalPages: Int, of clients: Int) {
        let here = totalPages - progress.missingPages
        self.init(
            phase: clients > 1 ? "serving \(clients) clients, the first" : "serving",
            fraction: Double(here) / Double(max(1, totalPages)),
            details: [
                "\(progress.faults) faults", "\(progress.urgentPages) pages asked for",
                "\(progress.backgroundPages) brought ahead",
                "\(Readable.bytes(progress.removedPages << 12)) given up",
            ])
    }
}
