import Foundation
import Glibc
import TestSupport
import Testing

/// Either process is killed at a random moment: what the other one says and does, and what it holds.
@Suite(.serialized) struct KillTests {
    /// `POSTCOPY_KILLS=100`: so many of each side.
    private static let count =
        ProcessInfo.processInfo.environment["POSTCOPY_KILLS"].flatMap { Int($0) } ?? 6
    /// Nobody waits longer than this for who says at once what happened.
    private static let noticeSeconds = 10.0

    /// When the other one was killed, as far as the survivor tells.
    private enum Moment: String {
        case before, between, after
        /// The destination knows that its guest will not run, and stays for a source that may not.
        case atSwitch
    }

    /// What it says then.
    private static let farewell = "never ran here"

    @Test(
        "a destination that is killed leaves a source that says what only it has",
        arguments: 0..<count)
    func destination(seed: Int) throws {
        try inPlace { place in
            let pair = try Self.pair(in: place)
            defer { pair.kill() }
            Self.waitAtRandom(seed)
            pair.receiver.signal(SIGKILL)
            _ = pair.receiver.end(within: 10)
            let sender = pair.sender
            let note: Comment = "seed \(seed)"
            let moment = try #require(Self.moment(of: sender, "runs on at the source"), note)
            print("destination killed, seed \(seed): \(moment.rawValue)")
            if moment == .between {
                try Self.end(sender, seed, in: place, subject: "the migration")
            }
            let ended = sender.end(within: 30)
            switch moment {
            case .before, .atSwitch:
                #expect(ended.status == 1, "\(note): \(ended)")
                #expect(ended.json["status"] as? String == "failed", "\(note): \(ended)")
                #expect(ended.number("verify", "mismatches") == 0, "\(note): \(ended)")
            case .between:
                Self.expectGivenUp(ended, seed)
                let debt = ["are only here", "may be lost"]
                let last = ended.errorLines.last ?? ""
                #expect(seed % 2 == 0 || debt.contains { last.contains($0) }, "\(note): \(ended)")
            case .after:
                #expect(ended.status == 0, "\(note): \(ended)")
                #expect(ended.json["status"] as? String == "completed", "\(note): \(ended)")
            }
            #expect(place.leftovers(expecting: ["socket"]) == [], note)
        }
    }

    @Test(
        "a source that is killed leaves a destination that says what is missing",
        arguments: 0..<count)
    func source(seed: Int) throws {
        try inPlace { place in
            let pair = try Self.pair(in: place)
            defer { pair.kill() }
            Self.waitAtRandom(seed)
            pair.sender.signal(SIGKILL)
            _ = pair.sender.end(within: 10)
            let receiver = pair.receiver
            let note: Comment = "seed \(seed)"
            let moment = try #require(Self.moment(of: receiver, "postcopy: failed"), note)
            print("source killed, seed \(seed): \(moment.rawValue)")
            if moment == .between { try Self.end(receiver, seed, in: place, subject: "the guest") }
            if moment == .atSwitch { receiver.signal(SIGINT) }
            let ended = receiver.end(within: 30)
            switch moment {
            case .before, .atSwitch:
                #expect(ended.status == 1, "\(note): \(ended)")
                #expect(ended.errorLines.last?.hasPrefix("postcopy: failed: ") == true, note)
            case .between:
                Self.expectGivenUp(ended, seed)
                let missing = ended.json["missing"] as? [[String: Any]] ?? []
                let bytes = missing.reduce(0) { $0 + ($1["bytes"] as? Int ?? 0) }
                #expect(bytes == ended.number("ram", "remaining") ?? 0, "\(note): \(ended)")
            case .after:
                #expect(ended.status == 0, "\(note): \(ended)")
                #expect(ended.number("verify", "mismatches") == 0, "\(note): \(ended)")
            }
            #expect(place.leftovers(expecting: ["socket"]) == [], note)
        }
    }

    /// Connected, but not much more.
    private static func pair(in place: TestPlace) throws -> RecoveryProcessTests.Pair {
        let pair = try RecoveryProcessTests.pair(
            in: place, uri: "unix:\(place.path("socket"))", memory: "32M", warmUp: "150ms",
            bandwidth: "60MB/s")
        _ = try #require(pair.sender.line(containing: "active", within: 20))
        return pair
    }

    /// A moment of the time that such a migration takes.
    private static func waitAtRandom(_ seed: Int) {
        var generator = SeededRandom(seed: UInt64(seed))
        pause(milliseconds: generator.below(900))
    }

    /// Waits until the survivor has ended or says that it waits.
    private static func moment(of survivor: RunningCommand, _ failure: String) -> Moment? {
        guard
            let line = survivor.line(
                containingAny: [
                    failure, farewell, "postcopy-paused", "every page is here", "completed",
                ], within: noticeSeconds)
        else { return survivor.isOpen ? nil : .after }
        if line.contains(failure) { return .before }
        if line.contains(farewell) { return .atSwitch }
        return line.contains("postcopy-paused") ? .between : .after
    }

    /// The survivor waits for somebody: who gives the guest up in order, or interrupts it twice.
    private static func end(
        _ survivor: RunningCommand, _ seed: Int, in place: TestPlace, subject: String
    ) throws {
        guard seed % 2 == 0 else {
            let arguments = ["abandon", "--pid", "\(survivor.processID)"]
            let abandon = try RunningCommand(arguments, in: place).end(within: 10)
            #expect(abandon.status == 0, "seed \(seed): \(abandon)")
            return
        }
        survivor.signal(SIGINT)
        _ = try #require(survivor.line(containing: "interrupt again", within: 10))
        survivor.signal(SIGINT)
        _ = try #require(survivor.line(containing: "\(subject) is abandoned", within: 10))
    }

    private static func expectGivenUp(_ ended: RunningCommand.Ended, _ seed: Int) {
        guard seed % 2 != 0 else {
            #expect(ended.status == 130, "seed \(seed): \(ended)")
            return
        }
        #expect(ended.status == 1, "seed \(seed): \(ended)")
        #expect(ended.json["status"] as? String == "postcopy-paused", "seed \(seed): \(ended)")
        #expect(ended.errorLines.last?.contains("gave") == true, "seed \(seed): \(ended)")
    }
}
