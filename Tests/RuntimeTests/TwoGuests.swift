import Glibc
import LinuxKernel
import MigrationCore
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

/// A migration from one guest to another one, which need not fit.
struct TwoGuests {
    let from: PatternGuest
    let to: PatternGuest
    var sends = testOptions()
    var receives = testOptions()
    var address = "tcp:127.0.0.1:0"
    /// Bytes after which a proxy cuts the link; `nil` for none in between.
    var cutAfter: Int?
    /// Notes what both ends write.
    var recorder: MigrationRecorder?

    struct Outcome {
        let source: SourceReport
        let destination: DestinationReport
        let sourceRuns: Bool
        let destinationRuns: Bool
        let wrong: Int
    }

    /// Runs it to its end; throws when something hangs.
    /// - Parameters:
    ///   - beforeStart: done once the sessions are made.
    ///   - whileActive: done once the blocks are listed, before the guest is stopped.
    func migrate(
        beforeStart: () throws -> Void = {}, whileActive: (() throws -> Void)? = nil
    ) throws -> Outcome {
        from.resume()
        let destination = try DestinationUnderTest(to, options: receives, vcpus: true, at: address)
        let hasProxy = cutAfter != nil || recorder != nil
        let proxy =
            hasProxy
            ? try CuttingProxy(
                to: destination.address, cutAfter: cutAfter ?? .max, recorder: recorder) : nil
        let bound = proxy?.address ?? destination.address
        let sending = try SourceSession(guest: from, options: sends)
        if whileActive == nil { sending.startPostcopy() }
        try beforeStart()
        let run = try Bounded("source") { sending.run(to: bound) }
        if let whileActive {
            #expect(Self.awaits(.active, of: sending))
            try whileActive()
            sending.startPostcopy()
        }
        let sent = try #require(run.output(), "the source hangs")
        // A refused source leaves a destination that still waits for one.
        if sent.status == .failed, sent.progress.sentBytes.total == 0 { destination.cancel() }
        let received = try #require(
            destination.report(), "hangs; source: \(sent.status) \(sent.problem ?? "")")
        if let proxy { #expect(proxy.stop()) }
        let isWhole = received.status == .completed
        return Outcome(
            source: sent, destination: received, sourceRuns: from.isRunning,
            destinationRuns: to.isRunning,
            wrong: to.mismatches.load(ordering: .relaxed) + (isWhole ? to.wrongWords() : 0))
    }

    private static func awaits(_ status: MigrationStatus, of session: SourceSession) -> Bool {
        let deadline = Monotonic.now() + 5_000_000_000
        while session.progress.status != status {
            guard Monotonic.now() < deadline else { return false }
            sched_yield()
        }
        return true
    }
}

extension TwoGuests.Outcome {
    func expectCompleted(_ note: Comment? = nil, line: SourceLocation = #_sourceLocation) {
        let problems = [source.problem, destination.problem].compactMap(\.self)
        #expect(problems == [], note, sourceLocation: line)
        #expect(source.status == .completed, note, sourceLocation: line)
        #expect(destination.status == .completed, note, sourceLocation: line)
        #expect(wrong == 0, note, sourceLocation: line)
        #expect(!sourceRuns && destinationRuns, note, sourceLocation: line)
    }

    /// The destination refused it, in words that hold `parts`, and the guest runs on at the source.
    func expectRefused(_ parts: String..., line: SourceLocation = #_sourceLocation) {
        #expect(source.status == .failed, sourceLocation: line)
        #expect(destination.status == .failed, sourceLocation: line)
        #expect(source.guestRunsHere && sourceRuns, sourceLocation: line)
        #expect(!destination.guestRunsHere && !destinationRuns, sourceLocation: line)
        let problem = destination.problem ?? ""
        for part in parts {
            #expect(problem.contains(part), "\(problem)", sourceLocation: line)
        }
    }
}
