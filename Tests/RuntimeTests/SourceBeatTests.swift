import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport
import Testing

/// How a source shows that it lives and judges whether its destination does, between two of ours.
extension RuntimeLaws.SourceRecoveryTests {
    /// Longer than any thread of a test is kept waiting, short enough to wait for.
    private static let limitNanoseconds: UInt64 = 400_000_000

    private static func beating(preempt: Bool = false) -> MigrationOptions {
        var options = options(.byHand, preempt: preempt)
        options.linkLimitNanoseconds = limitNanoseconds
        // Less than a page a second: the main channel would be silent.
        options.maxPostcopyBandwidth = 4_000
        return options
    }

    /// Reads a link's main channel on a thread of its own, and counts PINGs in it.
    private static func counter(
        _ destination: inout RecoveringDestination, _ options: MigrationOptions
    ) throws -> (main: SocketBox, urgent: SocketBox?, counter: PageCounter, Bounded<Void>) {
        let main = try destination.source.accept()
        let counter = try PageCounter(destination.source.guest)
        let reading = try Bounded("main") { counter.readMain(main) }
        // What it can is answered to a source that has asked.
        #expect(eventually { counter.pings.load(ordering: .relaxed) >= 2 })
        main.send(Answers.pong(1) + destination.offered() + Answers.pong(2))
        let urgent = options.preempt ? try destination.source.accept() : nil
        #expect(
            counter.packageCame.wait(timeoutNanoseconds: 5_000_000_000),
            "the source is \(destination.source.session.progress.status)")
        return (main, urgent, counter, reading)
    }

    /// Shows for a while that the destination lives; answers when it did so last.
    private static func beat(
        _ main: SocketBox, _ destination: RecoveringDestination, lastingLimits: UInt64
    ) throws -> UInt64 {
        let pause = try EventFlag()
        let end = Monotonic.now() + lastingLimits * limitNanoseconds
        var last = Monotonic.now()
        while last < end {
            main.send(destination.message(.heartbeat))
            _ = pause.wait(timeoutNanoseconds: limitNanoseconds / 8)
            last = Monotonic.now()
        }
        main.send(destination.message(.heartbeat))
        return last
    }

    @Test("a destination that beats is not left, and one that stops is, within the limit")
    func judges() throws {
        let options = Self.beating()
        var destination = try Self.destination(options)
        let (main, _, counter, reading) = try Self.counter(&destination, options)
        main.send(Answers.pong(0x42))
        let before = counter.pings.load(ordering: .relaxed)
        let last = try Self.beat(main, destination, lastingLimits: 3)
        #expect(destination.source.session.progress.recovery.breaks.isEmpty)
        // A beat is a quarter of the limit: a dozen in this time.
        #expect(counter.pings.load(ordering: .relaxed) - before >= 6)
        let waiting = try Self.expectWaits(destination.source)
        let linkBreak = try #require(waiting.recovery.breaks.first)
        #expect(linkBreak.problem.contains("was silent for 400 ms"))
        #expect(linkBreak.pausedAtNanoseconds >= last + Self.limitNanoseconds)
        #expect(linkBreak.pausedAtNanoseconds < last + 3 * Self.limitNanoseconds)
        #expect(destination.source.session.abandon())
        #expect(destination.source.report() != nil && reading.output() != nil)
    }

    @Test("an urgent channel begins with a hello and beats from its first page on")
    func urgentBeats() throws {
        let options = Self.beating(preempt: true)
        var destination = try Self.destination(options)
        let (main, opened, _, reading) = try Self.counter(&destination, options)
        let urgent = try #require(opened)
        main.send(Answers.pong(0x42))
        main.send(
            RuntimeLaws.ScriptedDestinationTests.request(
                start: 100 << 12, length: 4096, "low"))
        var reader = RawReader()
        let bytes = reader.read(ChannelHello.wireBytes, from: urgent.socket)
        let hello = try #require(try ChannelHello.decode(bytes.span))
        #expect(hello == ChannelHello(token: destination.token, channel: .urgent, attempt: 0))
        // The word, the name and the page.
        _ = reader.read(8 + 4 + 4096, from: urgent.socket)
        for _ in 0..<4 {
            main.send(destination.message(.heartbeat))
            let beat = reader.read(8, from: urgent.socket)
            var expected: [UInt8] = []
            RAMRecordEncoder.appendHeartbeat(to: &expected)
            #expect(beat == expected)
        }
        main.socket.shutDown()
        _ = try Self.expectWaits(destination.source)
        #expect(destination.source.session.abandon())
        #expect(destination.source.report() != nil && reading.output() != nil)
    }

    @Test(
        "while it waits in a write it hears whether the destination lives",
        arguments: [false, true])
    func judgesInWrite(lives: Bool) throws {
        let options = Self.beating(preempt: true)
        var destination = try Self.destination(options, pages: 4096)
        let (main, opened, _, reading) = try Self.counter(&destination, options)
        let urgent = try #require(opened)
        main.send(Answers.pong(0x42))
        // 16 MiB, which nobody reads.
        var answers = Answers(destination.source.guest)
        for page in 0..<4000 { answers.request(0, page: page, of: destination.source.guest) }
        main.send(answers.take())
        let start = Monotonic.now()
        if lives {
            _ = try Self.beat(main, destination, lastingLimits: 4)
            #expect(destination.source.session.progress.recovery.breaks.isEmpty)
        }
        let waiting = try Self.expectWaits(destination.source)
        let linkBreak = try #require(waiting.recovery.breaks.first)
        #expect(linkBreak.problem.contains("was silent for 400 ms"))
        if !lives { #expect(linkBreak.pausedAtNanoseconds < start + 4 * Self.limitNanoseconds) }
        #expect(destination.source.session.abandon())
        #expect(destination.source.report(withinSeconds: 5) != nil)
        #expect(reading.output() != nil)
        _ = urgent
    }
}
