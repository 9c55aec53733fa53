import Glibc
import LinuxKernel
import Parking
import Postcopy
import StreamWire
import TestSupport
import Testing

/// A machine has left its host, and the next one does not take it at once.
@Suite(
    "A relay keeps the machine until it is taken",
    .enabled(if: (try? Userfaultfd.open(.userOnly)) != nil, "needs a userfaultfd"))
struct RelayTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var preempt: Bool
        /// Whether its first host sends few pages that are not asked for: most come only once the
        /// machine is read where it ends.
        var isSlow = false
        /// How often the next host does not take it.
        var failures = 2
        var testDescription: String {
            "preempt \(preempt), \(isSlow ? "slowly" : "at once"), \(failures) times"
        }
    }

    @Test(
        "a next host that refuses the devices is asked again every second, until it takes them",
        arguments: [
            Case(preempt: false), Case(preempt: true), Case(preempt: false, isSlow: true),
            Case(preempt: true, isSlow: true),
        ])
    func refused(_ form: Case) throws {
        let next = try NextHost(preempt: form.preempt)
        let way = try Way(to: next.address, form)
        for failure in 1...form.failures {
            let refusedAt = try next.refuse {
                let arrival = way.relay.progress.arrival.status
                #expect(arrival == .postcopyActive || arrival == .completed)
                #expect(!way.first.isResumed, "it has left")
                // Nobody can call it back.
                way.relay.cancel()
            }
            try #require(next.isAsked(), "not asked again after \(failure)")
            #expect(Monotonic.now() - refusedAt >= 1_000_000_000)
            #expect(way.relay.lastRefusal == "the destination gave up with error 1")
            #expect(!way.relay.isOpen)
        }
        try way.expectHandedOn(to: next, attempts: form.failures + 1)
    }

    @Test(
        "a next host that goes without a word is asked again only when somebody says so",
        arguments: [Case(preempt: false, failures: 1), Case(preempt: true)])
    func wordless(_ form: Case) throws {
        let next = try NextHost(preempt: form.preempt)
        let way = try Way(to: next.address, form)
        for _ in 1...form.failures {
            #expect(!way.relay.isOpen)
            try next.vanish()
            try #require(holds { way.relay.isOpen })
            #expect(way.relay.lastRefusal?.contains("the link to the destination") == true)
            // For longer than one that refused is left alone.
            #expect(!next.isAsked(withinMilliseconds: 2_500))
            #expect(way.relay.isOpen)
            #expect(!way.first.isResumed && !way.held.isResumed, "it may run at the next host")
            way.relay.askAgain()
        }
        // The host that it came from is free all the while.
        let left = try #require(way.source.output() ?? nil, "the source hangs")
        #expect(left.status == .completed, "\(left.problem ?? "")")
        try way.expectHandedOn(to: next, attempts: form.failures + 1, left: left)
        #expect(!way.relay.isOpen)
    }

    /// Waits for what another thread brings about.
    private func holds(_ condition: () -> Bool) -> Bool {
        let deadline = Monotonic.now() + 10_000_000_000
        while !condition() {
            guard Monotonic.now() < deadline else { return false }
            sched_yield()
        }
        return true
    }
}

/// A machine on its way from its first host through a relay.
private struct Way {
    let first: ParkedMachine
    let source: Bounded<SourceReport?>
    let held: ParkedMachine
    let relay: Relay
    private let form: RelayTests.Case
    private let passing: Bounded<Result<RelayReport, any Error>>

    init(to next: ChannelAddress, _ form: RelayTests.Case) throws {
        self.form = form
        first = try SampleMachine.make()
        first.resume()
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        let address = listener.address
        var options = MigrationOptions()
        options.preempt = form.preempt
        var sends = options
        sends.maxPostcopyBandwidth = form.isSlow ? 4_096 : nil
        let sending = try MigrationSource(guest: first, options: sends)
        sending.startPostcopy()
        try sending.start(to: address)
        source = try Bounded("source") { try? sending.wait() }
        let stream = try Reception().awaitStream(on: listener, options: options)
        held = try SampleMachine.empty(describedBy: stream.introduction)
        var through = Relay.Options()
        through.arrival = options
        through.departure = options
        let relay = try Relay(of: held, to: next, options: through)
        self.relay = relay
        let arriving = Handover(stream)
        passing = try Bounded("relay") { Result { try relay.run(on: arriving.take()) } }
    }

    /// Lets the next host live, and checks every end of the way.
    func expectHandedOn(
        to next: NextHost, attempts: Int, left: SourceReport? = nil,
        line: SourceLocation = #_sourceLocation
    ) throws {
        let living = try next.live()
        let taken = try #require(living.output(), "the next host hangs", sourceLocation: line).get()
        let passed = try #require(passing.output(), "the relay hangs", sourceLocation: line).get()
        let left = try #require(
            left ?? source.output() ?? nil, "the source hangs", sourceLocation: line)
        #expect(left.status == .completed, "\(left.problem ?? "")", sourceLocation: line)
        #expect(passed.arrival.status == .completed, sourceLocation: line)
        #expect(passed.isComplete, "\(passed.departure.problem ?? "")", sourceLocation: line)
        #expect(passed.attempts == attempts, sourceLocation: line)
        #expect(!passed.isRefused && relay.lastRefusal == nil, sourceLocation: line)
        #expect(taken.report.status == .completed, "\(taken.report.problem ?? "")")
        #expect(taken.differences == [], sourceLocation: line)
        // It runs once.
        #expect(!first.isResumed && !held.isResumed && taken.isResumed, sourceLocation: line)
        guard form.isSlow else { return }
        #expect(taken.report.progress.requests > 0, sourceLocation: line)
        #expect(passed.arrival.progress.requests > 0, sourceLocation: line)
    }
}

/// The host that a relay hands the machine to: played by the test until it lives.
private final class NextHost {
    let address: ChannelAddress
    private let options: MigrationOptions
    private let blocks: [BlockGeometry]
    private var listener: Listener?

    private struct Channels: ~Copyable {
        let main: StreamSocket
        let urgent: StreamSocket?
    }

    struct Taken: Sendable {
        let report: DestinationReport
        let differences: [String]
        let isResumed: Bool
    }

    init(preempt: Bool) throws {
        var options = MigrationOptions()
        options.preempt = preempt
        self.options = options
        blocks = try SampleMachine.blocks.map {
            try BlockGeometry(name: $0.name, lengthBytes: $0.usedBytes, hostPage: $0.hostPage)
        }
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        address = listener.address
        self.listener = consume listener
    }

    /// Whether somebody connects in time.
    func isAsked(withinMilliseconds limit: UInt64 = 20_000) -> Bool {
        var poller = Poller(capacity: 1)
        poller.watch(listener!)
        return poller.wait(timeoutNanoseconds: limit * 1_000_000) > 0
    }

    /// Takes the devices, asks for two pages, and says that it does not want the machine.
    /// - Parameter whenHere: done once the devices are here.
    /// - Returns: when it said so.
    func refuse(whenHere: () -> Void) throws -> UInt64 {
        let channels = try answer()
        try read(channels.main) { item in
            guard case .packageBytes(_, isLast: true) = item else { return false }
            return true
        }
        let asked = blocks.indices.suffix(2).map { block in
            ReturnPathMessage.requestPages(
                block: BlockIndex(rawValue: block), start: RAMOffset(rawValue: 0),
                lengthBytes: blocks[block].hostPage.bytes)
        }
        try send(asked, to: channels.main)
        whenHere()
        let now = Monotonic.now()
        try send([.shut(1)], to: channels.main)
        // A socket that is closed with bytes unread may take its last word along.
        let deadline = now + Self.patienceNanoseconds
        var rest = ReceiveBuffer(capacityBytes: 64 << 10)
        while Monotonic.now() < deadline,
            let received = try? rest.fill(from: channels.main, wait: true), received > 0
        {
            rest.consume(received)
        }
        return now
    }

    /// Goes when it has heard that the devices come, and says nothing of it.
    func vanish() throws {
        let channels = try answer()
        try read(channels.main) { item in
            guard case .command(.packaged) = item else { return false }
            return true
        }
    }

    /// Takes the machine, whose memory is read at once.
    func live() throws -> Bounded<Result<Taken, any Error>> {
        let place = Handover(listener.take()!)
        let options = options
        return try Bounded("next") {
            Result { try Self.take(on: place.take(), options) }
        }
    }

    private static func take(
        on listener: consuming Listener, _ options: MigrationOptions
    ) throws -> Taken {
        let stream = try Reception().awaitStream(on: listener, options: options)
        let machine = try SampleMachine.empty(describedBy: stream.introduction)
        let readers = try PageReaders(of: machine, count: 2)
        let destination: ParkingDestination
        do {
            destination = try ParkingDestination(of: machine, options: options, readers: readers) {}
        } catch {
            readers.finish()
            throw error
        }
        let report = destination.run(on: stream)
        return Taken(
            report: report, differences: SampleMachine.differences(machine),
            isResumed: machine.isResumed)
    }

    private static let patienceNanoseconds: UInt64 = 10_000_000_000

    /// Takes the channels, and says what a QEMU has said by the time the machine may come.
    private func answer() throws -> Channels {
        let main = try accept()
        try send([.pong(1), .pong(Extensions.question), .pong(2)], to: main)
        guard options.preempt else { return Channels(main: main, urgent: nil) }
        return Channels(main: main, urgent: try accept())
    }

    private func accept() throws -> StreamSocket {
        try #require(isAsked())
        let socket = try listener!.accept()
        socket.limitWaits(nanoseconds: Self.patienceNanoseconds)
        return socket
    }

    private func send(
        _ messages: [ReturnPathMessage], to main: borrowing StreamSocket
    ) throws {
        var encoder = ReturnPathEncoder(blocks: blocks)
        var bytes: [UInt8] = []
        for message in messages { encoder.append(message, to: &bytes) }
        try main.send(bytes.span)
    }

    private func read(
        _ main: borrowing StreamSocket, upTo isLast: (StreamItem) -> Bool
    ) throws {
        var decoder = StreamDecoder(
            blocks: blocks.map { ListedBlock($0) }, machineType: nil, basePage: HostMemory.pageSize)
        var buffer = ReceiveBuffer(capacityBytes: 128 << 10)
        var isOver = false
        while !isOver {
            let received = try buffer.fill(from: main, wait: true)
            try #require(received ?? 0 > 0, "the relay closed")
            let consumed = try buffer.withBytes { bytes throws(WireError) in
                var start = 0
                while !isOver,
                    case .item(let item, let count) = try decoder.next(in: bytes, from: start)
                {
                    start += count
                    isOver = isLast(item)
                }
                return start
            }
            buffer.consume(consumed)
        }
    }
}

extension Reception {
    /// What a source says that connects in time.
    fileprivate func awaitStream(
        on listener: consuming Listener, options: MigrationOptions
    ) throws -> IncomingStream {
        var poller = Poller(capacity: 1)
        poller.watch(listener)
        guard poller.wait(timeoutNanoseconds: 10_000_000_000) > 0,
            let stream = try wait(on: listener, options: options)
        else { throw Errno.timedOut }
        return stream
    }
}

extension SampleMachine {
    /// Memory for the machine, as a host makes it to which it comes.
    fileprivate static func empty(
        describedBy introduction: StreamIntroduction
    ) throws(ParkError) -> ParkedMachine {
        try ParkedMachine(describedBy: introduction, origin: "tcp:192.0.2.1:4444")
    }
}
