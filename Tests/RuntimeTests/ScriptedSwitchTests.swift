import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport
import Testing

extension RuntimeLaws.ScriptedDestinationTests {
    /// Lets a source write its package, then says `answer` and closes when `closes`.
    private func afterPackage(
        _ answer: [UInt8], closes: Bool, options: MigrationOptions = testOptions(preempt: false)
    ) throws -> SourceUnderTest {
        let source = try Self.source(options)
        let main = try source.accept()
        main.send(Answers.ready)
        let counter = try PageCounter(source.guest)
        let reading = try Bounded("main") {
            counter.readMain(main)
            // Until the source closes.
            var reader = RawReader()
            _ = reader.readAll(from: main.socket)
        }
        #expect(counter.packageCame.wait(timeoutNanoseconds: 5_000_000_000))
        main.send(answer)
        if closes { main.socket.shutDown() }
        #expect(reading.output() != nil)
        return source
    }

    @Test("the package is answered by a close: nobody knows where the guest runs")
    func closesAfterPackage() throws {
        let source = try afterPackage([], closes: true)
        try Self.check(source, .postcopyPaused, "the link to the destination ")
    }

    @Test("the guest is refused: it goes on here")
    func refusesDevices() throws {
        let source = try afterPackage(Answers.shut(1), closes: true)
        try Self.check(source, .failed, "gave up with error 1")
    }

    @Test("the commit never comes")
    func noCommit() throws {
        let source = try afterPackage(
            [], closes: false, options: testOptions(preempt: false, silenceMilliseconds: 300))
        try Self.check(source, .postcopyPaused, "silent for 300 ms")
    }

    @Test("the guest is refused after the commit")
    func refusesAfterCommit() throws {
        let source = try afterPackage(Answers.pong(0x42) + Answers.shut(1), closes: false)
        try Self.check(source, .postcopyPaused, "error 1")
    }

    @Test("an answer and a death in one: the guest is not lost", arguments: 0..<20)
    func diesAfterPong(_ round: Int) throws {
        let source = try Self.source(starts: false)
        let main = try source.accept()
        var reader = RawReader()
        _ = reader.readSome(from: main.socket)
        main.send(Answers.ready)
        main.socket.shutDown()
        source.session.startPostcopy()
        try Self.check(source, .failed, "", withinSeconds: 2)
    }

    @Test("who cancels behind the start is heard while the guest has not moved")
    func cancels() throws {
        let source = try Self.source(starts: false)
        let main = try source.accept()
        source.session.startPostcopy()
        source.session.cancel()
        main.send(Answers.ready)
        try Self.check(source, .cancelled, "cancelled")
    }

    @Test("nobody takes the pages", arguments: [false, true])
    func takesNothing(preempt: Bool) throws {
        let options = testOptions(preempt: preempt, silenceMilliseconds: 400)
        let source = try Self.source(options, pages: 8192)
        let main = try source.accept()
        main.send(Answers.ready)
        let urgent = preempt ? try source.accept() : nil
        let counter = try PageCounter(source.guest, stopsAfter: 4000)
        counter.readMain(main)
        main.send(Answers.pong(0x42))
        var answers = Answers(source.guest)
        for page in 0..<6000 { answers.request(0, page: page, of: source.guest) }
        main.send(answers.take())
        let start = Monotonic.now()
        try Self.check(source, .postcopyPaused, "", withinSeconds: 5)
        #expect(Monotonic.now() - start < 2_500_000_000)
        _ = urgent
    }

    @Test("requests while nothing is sent do not hold the end up")
    func requestsAndNothingSent() throws {
        let options = testOptions(preempt: false, silenceMilliseconds: 300)
        let guest = try PatternGuest(
            blocks: [(name: "low", pages: 8192, backing: .anonymous)], deviceBytes: 16 << 20)
        let source = try SourceUnderTest(guest, options: options)
        let main = try source.accept()
        main.send(Answers.ready)
        // What was written of the package allows requests; the rest of it blocks the source.
        let counter = try PageCounter(guest, stopsAtPackage: true)
        counter.readMain(main)
        var answers = Answers(guest)
        for page in 0..<8192 { answers.request(0, page: page, of: guest) }
        main.send(answers.take())
        try Self.check(source, .postcopyPaused, "", withinSeconds: 5)
    }
}
