internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The destination's control thread: accepts channels, loads the devices, starts the guest, ends.
struct DestinationControl: ~Copyable {
    private let state: DestinationState
    private var listener: Listener?
    private var messages: [DestinationMessage] = []
    private var isDone = false
    private var tellsSource = false
    private(set) var guestRunningAtNanoseconds: UInt64?
    private(set) var endedAtNanoseconds: UInt64 = 0

    init(state: DestinationState, listener: consuming Listener) {
        self.state = state
        self.listener = consume listener
    }

    /// Waits for the source's first connection; `nil` when the user gave up waiting.
    mutating func acceptMain(isCancelled: borrowing Atomic<Bool>) throws -> StreamSocket? {
        while !isCancelled.load(ordering: .acquiring) {
            if try waitForConnection(timeoutNanoseconds: .max) { return try listener!.accept() }
        }
        return nil
    }

    /// Does what the phases ask for until the migration has ended.
    mutating func run(_ link: DestinationLink, isCancelled: borrowing Atomic<Bool>) {
        while !isDone {
            let isConnection = (try? waitForConnection(timeoutNanoseconds: .max)) ?? false
            if isConnection { accept(link) }
            // Whoever else connects is no part of this migration.
            if link.hasUrgent.load(ordering: .acquiring) { listener = nil }
            if isCancelled.load(ordering: .acquiring) { state.cancel() }
            takeMessages()
        }
        // Whoever connects now is refused, instead of waiting for somebody who takes nobody any more.
        listener = nil
        endedAtNanoseconds = Monotonic.now()
    }

    /// How long to wait for the source's own closing: only a source that was told has a reason to.
    func linger(_ nanoseconds: UInt64) -> UInt64 { tellsSource ? nanoseconds : 0 }

    private mutating func takeMessages() {
        state.control.drain(into: &messages)
        for message in messages {
            switch message {
            case .event(let event): perform(state.advance(event))
            case .perform(let action): perform(action)
            case .devices(let sections, let pings): load(sections, pings)
            }
        }
        messages.removeAll(keepingCapacity: true)
    }

    private mutating func perform(_ action: DestinationAction) {
        switch action {
        case .none, .refuse, .prepareMemory, .dropRanges, .startListening, .allowCommit,
            .awaitPages:
            break
        case .startGuest: startGuest()
        case .startGuestThenShut:
            startGuest()
            finish(tellingSource: 0)
        case .sendShut(let error): finish(tellingSource: error)
        case .closeStream, .pause: isDone = true
        case .sendBitmap, .resumePages: break
        }
    }

    private mutating func load(_ sections: [UInt8], _ pings: [UInt32]) {
        guard case .listening = state.currentPhase else { return }
        do { try state.guest.loadDevices(sections) } catch {
            state.report(.deviceRefused, problem: "the guest refused its device state: \(error)")
            return
        }
        let action = state.commit()
        guard action == .startGuest || action == .startGuestThenShut else { return }
        for value in pings { state.outbox.post(.pong(value)) }
        perform(action)
    }

    private mutating func startGuest() {
        let threads = state.guest.vcpuThreads
        state.vcpuThreads.withLock { $0 = threads }
        state.guest.resume()
        guestRunningAtNanoseconds = Monotonic.now()
    }

    private mutating func finish(tellingSource error: UInt32) {
        if error == 0 {
            state.guest.memoryArrived()
        } else if let problem = state.log.problem {
            // Goes out only to a source that has asked what this side can do.
            state.outbox.post(.refusalReason(problem))
        }
        state.outbox.post(.shut(error))
        tellsSource = true
        isDone = true
    }

    private mutating func accept(_ link: DestinationLink) {
        guard let socket = try? listener?.accept() else {
            // With no descriptor left the listener would stay ready for ever; the source is refused.
            listener = nil
            return
        }
        ChannelTuning.prepare(socket, state.options)
        link.deliver(ArrivedSocket(socket))
        state.faultFlag.raise()
    }

    private mutating func waitForConnection(timeoutNanoseconds: UInt64) throws(Errno) -> Bool {
        var poller = Poller(capacity: 2)
        let flag = poller.watch(state.controlFlag)
        var connection: Int?
        switch listener {
        case .some(let listener): connection = poller.watch(listener)
        case .none: connection = nil
        }
        _ = poller.wait(timeoutNanoseconds: timeoutNanoseconds)
        if poller.isReady(flag) { state.controlFlag.clear() }
        return connection.map(poller.isReady) ?? false
    }
}
