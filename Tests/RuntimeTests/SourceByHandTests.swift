import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import Testing

/// What somebody does to a source that has paused, or should.
extension RuntimeLaws.SourceRecoveryTests {
    @Test("by hand: it waits, tries once for each word, and goes on")
    func byHand() throws {
        var destination = try Self.destination(Self.options(.byHand))
        let session = destination.source.session
        #expect(!session.recover() && !session.abandon())
        try destination.begin(.pages(100))
        for _ in 0..<2 {
            let waiting = try Self.expectWaits(destination.source)
            #expect(waiting.recovery.breaks.count == 1)
            session.cancel()
            #expect(session.recover())
            try destination.resume(.hello)
        }
        let waiting = try Self.expectWaits(destination.source)
        #expect(waiting.recovery.breaks.first?.attempts == 2)
        #expect(waiting.recovery.refusal != nil)
        #expect(session.recover())
        try destination.resume(.never)
        try Self.expectCompleted(destination, breaks: 1)
        #expect(!session.recover() && !session.abandon() && !session.pause())
    }

    @Test("elsewhere: the address that somebody names counts from then on")
    func elsewhere() throws {
        var destination = try Self.destination(Self.options(.byHand))
        let nowhere = try Self.deadAddress()
        try destination.begin(.pages(100))
        _ = try Self.expectWaits(destination.source)
        #expect(destination.source.session.recover(at: [nowhere]))
        let refusal = destination.source.refusal()
        #expect(refusal.contains("nobody listens there"))
        #expect(refusal.contains("the guest is lost with it"))
        #expect(refusal.contains("KiB were not sent yet"))
        _ = try Self.expectWaits(destination.source)
        #expect(destination.source.session.recover(at: [nowhere, destination.source.address]))
        try destination.resume(.never)
        try Self.expectCompleted(destination, breaks: 1)
    }

    /// Where nobody listens.
    static func deadAddress() throws -> ChannelAddress {
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        return listener.address
    }

    @Test("paused by hand it is held until somebody says so", arguments: [false, true])
    func paused(preempt: Bool) throws {
        var destination = try Self.destination(Self.options(preempt: preempt))
        let session = destination.source.session
        #expect(!session.pause())
        try destination.begin(.pages(100)) { #expect(session.pause()) }
        let waiting = try Self.expectWaits(destination.source)
        #expect(waiting.recovery.breaks.map(\.problem) == ["paused by hand"])
        #expect(waiting.recovery.breaks.first?.attempts == 0)
        #expect(session.pause())
        #expect(session.recover())
        try destination.resume(.never)
        try Self.expectCompleted(destination, breaks: 1)
    }

    @Test("paused inside a recovery it is held, and asked for inside one it tries again")
    func pausedInside() throws {
        var destination = try Self.destination()
        let session = destination.source.session
        try destination.begin(.pages(100))
        let main = try destination.comeBack()
        #expect(session.pause())
        _ = try Self.expectWaits(destination.source)
        _ = main
        #expect(session.recover())
        try destination.resume(.hello)
        let second = try destination.comeBack()
        #expect(session.recover())
        second.socket.shutDown()
        try destination.resume(.never)
        try Self.expectCompleted(destination, breaks: 1)
    }

    @Test("given up while it waits", arguments: [RecoveryOptions.Mode.byHand, .automatic])
    func abandoned(_ mode: RecoveryOptions.Mode) throws {
        var destination = try Self.destination(Self.options(mode))
        try destination.begin(.pages(100))
        if mode == .byHand {
            _ = try Self.expectWaits(destination.source)
        } else {
            _ = try destination.comeBack()
        }
        #expect(destination.source.session.abandon())
        let report = try #require(destination.source.report(withinSeconds: 5), "hangs")
        #expect(report.status == .postcopyPaused)
        #expect(report.isAbandoned && !report.guestRunsHere)
        #expect(report.problem?.contains("given up by hand") == true)
        #expect(report.breaks.count == 1)
        #expect(!report.progress.recovery.waitsForSomebody)
    }

    @Test("the time is up: it waits for somebody, and recover begins anew")
    func timeIsUp() throws {
        var options = Self.options()
        options.recovery.lastingNanoseconds = 30_000_000
        var destination = try Self.destination(options)
        try destination.begin(.pages(100))
        for _ in 0..<2 {
            // An attempt that is cut each time until no more comes.
            while !destination.source.session.progress.recovery.waitsForSomebody {
                guard let main = try? destination.source.accept(withinNanoseconds: 20_000_000)
                else { continue }
                main.socket.shutDown()
            }
            _ = try Self.expectWaits(destination.source)
            #expect(destination.source.session.recover())
        }
        while let main = try? destination.source.accept(withinNanoseconds: 500_000_000) {
            main.socket.shutDown()
            if destination.source.session.progress.recovery.waitsForSomebody { break }
        }
        #expect(destination.source.session.abandon())
        #expect(try #require(destination.source.report()).isAbandoned)
    }

    @Test("QEMU at the other end: by hand, without a hello", arguments: [false, true])
    func stock(preempt: Bool) throws {
        var destination = try Self.destination(Self.options(preempt: preempt), isOwn: false)
        let session = destination.source.session
        try destination.begin(.pages(100))
        for cut: Cut in [.bitmap, .resume, .pages(200), .never] {
            _ = try Self.expectWaits(destination.source)
            #expect(session.recover())
            try destination.resume(cut)
        }
        try Self.expectCompleted(destination, breaks: 2)
        #expect(destination.hellos.isEmpty)
    }

    @Test("a link by which a QEMU is being recovered is not ended by hand")
    func stockInRecovery() throws {
        var destination = try Self.destination(isOwn: false)
        let session = destination.source.session
        try destination.begin(.pages(100))
        _ = try Self.expectWaits(destination.source)
        #expect(session.recover())
        let main = try destination.comeBack()
        #expect(eventually { session.progress.status == .postcopyRecover })
        #expect(!session.pause())
        main.socket.shutDown()
        _ = try Self.expectWaits(destination.source)
        #expect(session.recover())
        try destination.resume(.never)
        try Self.expectCompleted(destination, breaks: 1)
    }

    @Test("a peer that accepts and says nothing is left for the next attempt")
    func silentPeer() throws {
        var options = Self.options()
        options.linkLimitNanoseconds = 200_000_000
        let destination = try Self.destination(options)
        var first = destination
        try first.begin(.pages(100))
        let silent = try first.comeBack()
        let start = Monotonic.now()
        _ = try first.comeBack()
        #expect(Monotonic.now() - start >= 150_000_000)
        #expect(first.hellos.map(\.attempt) == [1, 2])
        #expect(first.source.session.abandon())
        #expect(try #require(first.source.report()).isAbandoned)
        _ = silent
    }

    @Test("memory that was given back cannot be recovered, and a mode of none is as before")
    func neverBack() throws {
        for isReleased in [true, false] {
            var options = Self.options(isReleased ? .automatic : .none)
            options.releasesRAM = isReleased
            var destination = try Self.destination(options)
            try destination.begin(.pages(100))
            let report = try #require(destination.source.report(withinSeconds: 5), "hangs")
            #expect(report.status == .postcopyPaused && !report.isAbandoned)
            #expect(report.problem?.contains("cannot be recovered") == isReleased)
            #expect(!destination.source.session.recover())
            #expect(!destination.source.session.abandon())
        }
    }
}
