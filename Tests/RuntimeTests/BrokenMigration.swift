import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

/// A migration whose link a proxy breaks, from one guest to another.
struct BrokenMigration {
    let source: any Guest
    let destination: any Guest
    var options = recoveringOptions()
    var breaks: [Break] = []
    /// Whether the guest moves at once; else when the options say.
    var startsPostcopy = true
    /// Called with the proxy before anything runs.
    var prepare: @Sendable (BreakingProxy) -> Void = { _ in }

    struct Outcome {
        let source: SourceReport
        let destination: DestinationReport
        let events: [BreakingProxy.Event]
    }

    /// Runs it to its end.
    /// - Throws: when something hangs; then it is given up.
    func run(_ note: String = "", withinSeconds seconds: UInt64 = 60) throws -> Outcome {
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        let proxy = try BreakingProxy(to: listener.address, plan: breaks)
        prepare(proxy)
        let place = Handover(listener)
        let receiving = try DestinationSession(guest: destination, options: options)
        let sending = try SourceSession(guest: source, options: options)
        source.resume()
        let receiver = try Bounded("destination") { receiving.run(on: place.take()) }
        let address = proxy.address
        let sender = try Bounded("source") { sending.run(to: address) }
        if startsPostcopy { sending.startPostcopy() }
        let sent = sender.output(withinSeconds: seconds)
        let received = receiver.output(withinSeconds: seconds)
        if sent == nil || received == nil {
            Issue.record(
                "hangs: \(note)\n\(sending.progress)\n\(receiving.progress)\n\(proxy.events)")
            sending.abandon()
            receiving.abandon()
        }
        let hasStopped = proxy.stop()
        #expect(hasStopped, "the proxy hangs: \(note)")
        return Outcome(
            source: try #require(sent), destination: try #require(received),
            events: proxy.events)
    }
}

/// Options of a migration that comes back by itself.
func recoveringOptions(
    preempt: Bool = true, limitMilliseconds: UInt64 = 20_000
) -> MigrationOptions {
    var options = testOptions(preempt: preempt)
    options.recovery.mode = .automatic
    options.linkLimitNanoseconds = limitMilliseconds * 1_000_000
    return options
}

extension BrokenMigration.Outcome {
    /// Both sides completed and tell of their breaks in order; exactly one guest runs.
    func expectCompleted(_ note: Comment, line: SourceLocation = #_sourceLocation) {
        #expect(source.status == .completed, note, sourceLocation: line)
        #expect(destination.status == .completed, note, sourceLocation: line)
        #expect(
            [source.problem, destination.problem].compactMap(\.self) == [], note,
            sourceLocation: line)
        #expect(!source.guestRunsHere && destination.guestRunsHere, note, sourceLocation: line)
        #expect(destination.missing.isEmpty, note, sourceLocation: line)
        for side in [source.breaks, destination.breaks] { Self.check(side, note, line) }
    }

    private static func check(
        _ breaks: [LinkBreak], _ note: Comment, _ line: SourceLocation
    ) {
        var last: UInt64 = 0
        for one in breaks {
            #expect(!one.problem.isEmpty, note, sourceLocation: line)
            #expect(last <= one.pausedAtNanoseconds, note, sourceLocation: line)
            #expect(one.heardAtNanoseconds <= one.pausedAtNanoseconds, note, sourceLocation: line)
            let instants = [
                one.pausedAtNanoseconds, one.linkBackAtNanoseconds, one.resumedAtNanoseconds,
                one.firstPageAtNanoseconds,
            ].compactMap(\.self)
            #expect(
                zip(instants, instants.dropFirst()).allSatisfy { $0 <= $1 },
                "\(note): \(one)", sourceLocation: line)
            last = instants.last ?? last
        }
    }
}
