internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import Synchronization

/// What the threads of a handler share.
final class FaultCore: Sendable {
    let memory: ServedMemory
    let ledger: PageLedger
    let provider: any PageProvider
    let options: FaultHandlerOptions
    let gates: PlacingGates
    let desk: FaultDesk
    let turns: WorkerTurns
    let background: BackgroundWork
    let account: Mutex<FaultAccount>
    let held: (@Sendable (FaultHeldPoint) -> Void)?

    init(
        _ memory: ServedMemory, _ provider: any PageProvider, _ options: FaultHandlerOptions,
        _ held: (@Sendable (FaultHeldPoint) -> Void)?
    ) throws(Errno) {
        self.memory = memory
        self.provider = provider
        self.options = options
        self.held = held
        ledger = PageLedger(memory.regions)
        // The last gates are the background's.
        gates = PlacingGates(count: options.workers + options.backgroundThreads)
        desk = try FaultDesk(hasOthers: options.workers > 1)
        turns = try WorkerTurns(
            memory.uffd, pagesLeft: desk.pagesLeft, ending: desk.ending,
            hasOthers: options.workers > 1)
        background = try BackgroundWork()
        account = Mutex(FaultAccount(memory.geometries))
    }

    var ending: EventFlag { desk.ending }

    var isEnding: Bool { desk.isEnding.load(ordering: .acquiring) }

    var isOwnThread: Bool { desk.threads.withLock { $0.contains(currentThreadID()) } }

    func setState(_ state: FaultProgress.State) {
        account.withLock { account in
            // What ended it by itself remains to be seen.
            if case .ended = account.progress.state { return }
            account.progress.state = state
        }
    }

    var progress: FaultProgress {
        var progress = account.withLock { $0.progress }
        progress.missingPages = ledger.missingCount
        return progress
    }

    func report() -> FaultReport {
        let missing = ledger.missingCount
        return account.withLock { account in
            account.progress.missingPages = missing
            return account.finish(memory.geometries, at: Monotonic.now())
        }
    }

    /// Reads all events that are there and notes them: faults are left at the desk. Answers whether there
    /// were any.
    @discardableResult
    func takeEvents() -> Bool {
        var (hasFaults, outside) = readEvents()
        // Nobody serves those, and somebody waits.
        while let address = outside.last, !isEnding {
            if refuse(faultAt: address) {
                outside.removeLast()
                continue
            }
            let more = readEvents()
            hasFaults = hasFaults || more.hasFaults
            outside = more.outside + outside
            _ = ending.wait(timeoutNanoseconds: Self.refusalPauseNanoseconds)
        }
        return hasFaults
    }

    /// Whoever caused an event needs to run once after it was read.
    private static let refusalPauseNanoseconds: UInt64 = 100_000

    /// Reads all events that are there; answers whether there were faults, and those in no region.
    private func readEvents() -> (hasFaults: Bool, outside: [HostAddress]) {
        var outside: [HostAddress] = []
        var (count, hasFaults) = (0, false)
        repeat {
            var faults: [FaultEvent] = []
            var refused: FaultHandlerError?
            var removed = 0
            gates.closed {
                do throws(Errno) {
                    count = try memory.uffd.readEveryEvent { event in
                        switch event {
                        case .fault(let fault): faults.append(fault)
                        case .removed(let range), .unmapped(let range):
                            for (block, bytes) in memory.parts(of: range) {
                                removed += ledger.remove(bytes, of: block)
                            }
                        default: refused = .cannotFollow(event)
                        }
                    }
                } catch {
                    count = 0
                    refused = .readingEvents(error)
                }
            }
            hasFaults = hasFaults || !faults.isEmpty
            outside += note(faults, removedPages: removed)
            if let refused { fail(refused) }
        } while count == Userfaultfd.eventsPerRead
        return (hasFaults, outside)
    }

    /// Accounts for faults, claims their pages and leaves those at the desk; answers faults in no region.
    private func note(_ faults: [FaultEvent], removedPages: Int) -> [HostAddress] {
        guard !faults.isEmpty || removedPages > 0 else { return [] }
        let now = Monotonic.now()
        var pages: [HostPage] = []
        var outside: [HostAddress] = []
        account.withLock { account in
            account.progress.faults += UInt64(faults.count)
            account.progress.removedPages += UInt64(removedPages)
            for fault in faults {
                guard let page = memory.page(at: fault.address) else {
                    outside.append(fault.address)
                    continue
                }
                account.begin(page, thread: fault.thread, at: now)
                // Whoever has it hears that it is wanted.
                if ledger.claim(page) { pages.append(page) }
            }
        }
        desk.leave(pages)
        return outside
    }

    /// A fault that no region holds: whoever waits there is told by `SIGBUS`, or this handler is of no use.
    /// `false` when that must wait for events to be read.
    private func refuse(faultAt address: HostAddress) -> Bool {
        held?(.faultOutside(address))
        guard let page = StrayPage(at: address) else {
            fail(.faultOutside(address: address.rawValue))
            return true
        }
        do throws(Errno) {
            let placement = try memory.uffd.poison(
                page.geometry.hostPages, of: page, yieldsToEvents: true)
            guard !placement.isInterrupted else { return false }
            lose(nil, at: address, "a fault outside of the regions that are served", .poisoned)
        } catch .noSuchProcess {
            fail(.ownerGone)
        } catch .noEntry {
            // Unmapped meanwhile: whoever waits finds that out, or comes back here. Refused only for a range
            // that is none.
            try? memory.uffd.wake(HostPageIndex(rawValue: 0), of: page)
        } catch {
            fail(.faultOutside(address: address.rawValue))
        }
        return true
    }

    /// Accounts for a page that could not be served, and tells.
    func lose(
        _ page: HostPage?, at address: HostAddress, _ problem: String, _ outcome: LostPage.Outcome
    ) {
        let lost = LostPage(page: page, address: address, problem: problem, outcome: outcome)
        account.withLock { $0.lose(lost, at: Monotonic.now()) }
        options.pageLost(lost)
    }

    /// Ends the service, and tells why.
    func fail(_ error: FaultHandlerError) {
        guard leave(becauseOf: error) else { return }
        options.ended(error)
    }
}

/// A page of the system's size that no region holds.
private struct StrayPage: PageTarget {
    let address: HostAddress
    let geometry: BlockGeometry
    let placingUnit = HostMemory.pageSize

    init?(at address: HostAddress) {
        let bytes = HostMemory.pageSize.bytes
        self.address = HostAddress(rawValue: address.rawValue & ~(bytes - 1))
        guard
            let geometry = try? BlockGeometry(
                name: "stray page", lengthBytes: bytes, hostPage: HostMemory.pageSize)
        else { return nil }
        self.geometry = geometry
    }
}
