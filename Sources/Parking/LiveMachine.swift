public import Postcopy
internal import Synchronization

/// A machine that arrives for another process to run it: its memory is kept here, and each page is read
/// as it is needed, from its source where it has not come yet.
///
/// Before the machine has left its source nothing of its memory can be read: pages that came early may
/// yet change. Once every page is here the source forgets the machine, and this process alone has it.
public final class LiveMachine: PageProvider {
    private let machine: ParkedMachine
    private let session: DestinationSession
    private let custody: Custody

    /// - Parameter whenLoaded: takes the devices, before the source is told that they are here; what it
    ///   throws leaves the machine there.
    /// - Throws: `ConfigurationError`, `UserfaultfdRefusal`, or `Errno` when no descriptor is left.
    public init(
        of machine: ParkedMachine, options: MigrationOptions,
        whenLoaded: @escaping @Sendable (_ devices: [UInt8]) throws(GuestError) -> Void
    ) throws {
        let custody = try Custody(of: machine.memory)
        self.machine = machine
        self.custody = custody
        session = try DestinationSession(
            guest: ArrivingMachine(
                machine, whenOurs: { custody.begin() }, whenLost: { custody.lose() },
                whenLoaded: { () throws(GuestError) in try whenLoaded(machine.saveDevices()) }),
            options: options)
    }

    /// Takes the machine in. Blocking: until every page is here, or its way has ended otherwise; then what
    /// is missing cannot be read.
    public func run(on stream: consuming IncomingStream) -> DestinationReport {
        let report = session.run(on: stream)
        if report.status == .completed || report.isPausedWithAllPages { return report }
        custody.lose()
        // Whoever waits for a page goes on, and learns that there is none.
        session.abandonGuest()
        return report
    }

    /// Reads pages, as they come from the source. Blocking: until the machine has left it, and the pages
    /// are here; for ever while the link to it is down.
    public func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        custody.waitForMachine()
        // Pages that were lost end in a signal, which whoever watches them turns into zeros.
        LostMemoryWatch.admit()
        let ram = machine.memory[block.rawValue]
        let page = PageSize.target.bytes
        var next = offset.rawValue
        let end = next + UInt64(bytes.count)
        while next < end, ram.isZeroPage(at: RAMOffset(rawValue: next)) { next += page }
        if next < end { ram.read(into: &bytes, at: offset) }
        guard !custody.isLost else {
            throw PageProviderError(
                "the machine's source is gone, and with it the pages that had not come")
        }
        return next < end ? .bytes : .zeros
    }
}

extension LiveMachine {
    public var progress: DestinationProgress { session.progress }

    /// Whether the machine has left its source, so that its memory can be read.
    public var isHere: Bool { machine.isResumed }

    /// Ends it where the machine has not left its source; afterwards it has no effect.
    public func cancel() { session.cancel() }

    /// Ends the link once the machine has moved, until `recover`; see `DestinationSession.pause`.
    @discardableResult
    public func pause() -> Bool { session.pause() }

    /// Lets the source of a paused migration in again; see `DestinationSession.recover`.
    @discardableResult
    public func recover(on listener: consuming Listener? = nil) -> Bool {
        session.recover(on: listener)
    }

    /// Gives a paused machine up; see `DestinationSession.abandon`.
    @discardableResult
    public func abandon() -> Bool { session.abandon() }
}

/// Whose the machine is: its source's, ours, or nobody's any more.
private final class Custody: Sendable {
    private let memory: [GuestRAM]
    /// Raised for good once reading need not be waited for.
    private let flag: EventFlag
    private let hasBegun = Atomic(false)
    /// Set before pages that were lost can be seen; read after pages were.
    private let hasLost = Atomic(false)
    private let watches = Mutex<[LostMemoryWatch]>([])

    init(of memory: [GuestRAM]) throws(Errno) {
        self.memory = memory
        flag = try EventFlag()
    }

    var isLost: Bool { hasLost.load(ordering: .sequentiallyConsistent) }

    func begin() {
        hasBegun.store(true, ordering: .releasing)
        flag.raise()
    }

    func lose() {
        guard !hasLost.exchange(true, ordering: .sequentiallyConsistent) else { return }
        // Without a watch the process ends at the first page that is touched, as it must.
        watches.withLock { $0 = memory.compactMap { try? LostMemoryWatch($0) } }
        flag.raise()
    }

    func waitForMachine() {
        if !hasBegun.load(ordering: .acquiring) { flag.wait() }
    }
}
