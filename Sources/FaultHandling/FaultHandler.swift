public import LinuxKernel
internal import PageModel
internal import Synchronization

/// Serves the missing pages of memory from a provider, without a migration: on demand, and in the
/// background where it is asked to.
///
/// Make it, `start` it, touch the memory, and `stop` it once everything is placed or nobody needs the
/// memory any more. All calls may come from any thread but the handler's own (the provider's `read` and
/// the callbacks of the options); a handler that is let go without `stop` stops then.
public final class FaultHandler: Sendable {
    let core: FaultCore
    private let life = Mutex(Life.ready)
    private let stopped: EventFlag

    private enum Life {
        case ready
        case serving([HandlerThread])
        case stopping
        case stopped(FaultReport)
    }

    /// Serves memory of this process. Pages that were touched before the start are left as they are;
    /// from the start to the stop `memory` keeps its length and gets no transparent huge pages.
    /// - Throws: `FaultHandlerError`; `UserfaultfdRefusal`, which names what this host refused and the
    ///   remedy; or `Errno`.
    public convenience init(
        memory: [GuestRAM], pages: any PageProvider,
        options: FaultHandlerOptions = FaultHandlerOptions()
    ) throws {
        try self.init(memory: memory, pages: pages, options: options, held: nil)
    }

    /// Serves memory of another process. It must not be touched before the start, but for what shall
    /// stay as it is.
    /// - Throws: `FaultHandlerError`, or `Errno`.
    public convenience init(
        serving memory: consuming ForeignMemory, pages: any PageProvider,
        options: FaultHandlerOptions = FaultHandlerOptions()
    ) throws {
        try self.init(serving: memory, pages: pages, options: options, held: nil)
    }

    package convenience init(
        memory: [GuestRAM], pages: any PageProvider, options: FaultHandlerOptions,
        held: (@Sendable (FaultHeldPoint) -> Void)?
    ) throws {
        try options.check()
        for ram in memory where !ram.canMissPages {
            throw FaultHandlerError.neverMisses(block: ram.geometry.name)
        }
        if let (first, second) = memory.firstOverlap() {
            throw FaultHandlerError.repeatedMemory(block: memory[max(first, second)].geometry.name)
        }
        let uffd = try Userfaultfd.open(
            options.faultOrigin,
            options.removedPagesAreZero ? .missingAndRemovedPages : .missingPages)
        try self.init(
            ServedMemory(uffd, memory.map(ServedRegion.init)), pages, options, held)
    }

    package convenience init(
        serving memory: consuming ForeignMemory, pages: any PageProvider,
        options: FaultHandlerOptions, held: (@Sendable (FaultHeldPoint) -> Void)?
    ) throws {
        try options.check()
        let regions = memory.regions.map(ServedRegion.init)
        try self.init(ServedMemory(memory.takeDescriptor(), regions), pages, options, held)
    }

    private init(
        _ memory: ServedMemory, _ pages: any PageProvider, _ options: FaultHandlerOptions,
        _ held: (@Sendable (FaultHeldPoint) -> Void)?
    ) throws {
        guard !memory.regions.isEmpty else { throw FaultHandlerError.noMemory }
        core = try FaultCore(memory, pages, options, held)
        stopped = try EventFlag()
    }

    /// Registers memory of this process and starts the threads. From here on whoever touches a missing
    /// page waits until it is served, and until it stops no migration and no other handler has the memory.
    /// - Throws: `.alreadyStarted`, `.stopped`, `.memoryInUse`, `.registering` or `.startingThreads`; then
    ///   nothing is served, and memory is as it was.
    public func start() throws(FaultHandlerError) {
        try life.withLock { life throws(FaultHandlerError) in
            switch life {
            case .ready: break
            case .serving: throw .alreadyStarted
            case .stopping, .stopped: throw .stopped
            }
            try core.memory.register()
            core.setState(.serving)
            do throws(Errno) { life = .serving(try HandlerThread.all(of: core)) } catch {
                core.memory.unregister()
                core.memory.giveBack()
                core.setState(.ready)
                throw .startingThreads(error)
            }
        }
    }

    /// Places these pages in the background, in this order, ahead of what `fill` still has to do. Before
    /// `start`, too; then it begins with that.
    /// - Throws: `.otherMemory`.
    public func prefetch(_ trace: FaultTrace) throws(FaultTraceError) {
        try trace.checkMemory(core.memory.geometries)
        core.background.add(trace.pages)
    }

    /// Places all that is missing in the background.
    public func fill() { core.background.addAll() }

    /// Waits until `prefetch` and `fill` have done what they were asked for, or nobody is served any more;
    /// answers whether no page is missing.
    public func waitUntilFilled(timeoutNanoseconds: UInt64 = .max) -> Bool {
        var poller = Poller(capacity: 2)
        poller.watch(core.background.idle)
        poller.watch(core.ending)
        _ = poller.wait(timeoutNanoseconds: timeoutNanoseconds)
        return core.ledger.missingCount == 0
    }

    /// Waits until the handler ends, by itself or by `stop`; answers whether it has.
    public func waitUntilEnded(timeoutNanoseconds: UInt64 = .max) -> Bool {
        core.ending.wait(timeoutNanoseconds: timeoutNanoseconds)
    }

    /// Where it stands; cheap, from any thread.
    public var progress: FaultProgress { core.progress }

    /// Whether `prefetch` and `fill` have done what they were asked for, as far as it can be done now:
    /// pages that could not be had are left out.
    public var isBackgroundIdle: Bool { core.background.idle.wait(timeoutNanoseconds: 0) }

    /// Whether the process whose memory is served has gone; asked of the kernel. The handler finds out by
    /// itself, but not while all its workers wait for the provider.
    public var isOwnerGone: Bool { core.memory.isOwnerGone }

    /// Ends the threads and unregisters the memory. Whoever waits for a page goes on at once, or waits, as
    /// `FaultHandlerOptions.missingAtStop` says; this returns when the provider's calls under way have.
    ///
    /// A second call waits for the first, and answers the same.
    /// - Precondition: it is not called by the handler's own threads.
    @discardableResult
    public func stop() -> FaultReport {
        if core.isOwnThread {
            fatalError("FaultHandler.stop() was called by its own page provider or callback")
        }
        switch takeThreads() {
        case .ended(let report): return report
        case .anotherStops:
            stopped.wait()
            return stop()
        case .mine(let threads):
            core.leave()
            for thread in threads { thread.join() }
            core.setState(.stopped)
            let report = core.report()
            life.withLock { $0 = .stopped(report) }
            stopped.raise()
            return report
        }
    }

    private enum StopTurn {
        case mine([HandlerThread])
        case anotherStops
        case ended(FaultReport)
    }

    private func takeThreads() -> StopTurn {
        life.withLock { life in
            let before = life
            switch before {
            case .ready: life = .stopping
            case .serving: life = .stopping
            case .stopping, .stopped: break
            }
            return switch before {
            case .ready: .mine([])
            case .serving(let threads): .mine(threads)
            case .stopping: .anotherStops
            case .stopped(let report): .ended(report)
            }
        }
    }

    deinit {
        guard case .mine(let threads) = takeThreads() else { return }
        core.leave()
        let isOwn = core.isOwnThread
        for thread in threads {
            // A callback may have held the last reference: its thread cannot wait for itself.
            if isOwn { thread.detach() } else { thread.join() }
        }
    }
}
