import Foundation
import LinuxKernel
import TestSupport

/// A receiver in a process of its own that is fed what a `DamagedFeed` has.
struct LiveFeed {
    let feed: DamagedFeed
    let place: TestPlace
    /// What its memory may be: the guest's, and what the program needs for itself.
    let residentBytesMax: Int

    /// How a receiver ended.
    struct Outcome {
        let ended: RunningCommand.Ended
        /// From the last byte that was sent until nothing more came back.
        let waitedSeconds: Double
        let residentBytes: Int
        /// Whether it kept a machine.
        let isKept: Bool
    }

    /// How long the receiver waits for a source that says nothing.
    private static let silence = "300ms"
    /// A hang lasts for ever; this is long for a machine with much else to do.
    static let endSecondsMax = 20.0
    /// The bytes of one piece, and the time between two, of a feed that is slow: shorter than the
    /// silence that is allowed.
    private static let pieceBytes = 48 << 10
    private static let tickNanoseconds: UInt64 = 5_000_000
    private static let slowTickNanoseconds: UInt64 = 60_000_000

    /// Plays the feed. What the receiver asks is read, and not answered.
    func play() throws -> Outcome {
        let folder = "machine-\(feed.seed)"
        let keep = feed.isParked ? ["--park", place.path(folder)] : ["--throw-away"]
        let command = try RunningCommand(
            [
                "receive", "tcp:127.0.0.1:0", "--from-qemu", "--silence-limit", Self.silence,
                "--recover", "none",
            ]
                + keep + feed.arguments, in: place)
        guard let line = command.line(containing: "listening on ", within: Self.endSecondsMax),
            let uri = line.split(separator: " ").last,
            let address = try? ChannelAddress(parsing: String(uri))
        else {
            return Outcome(
                ended: command.end(within: 0), waitedSeconds: 0, residentBytes: 0, isKept: false)
        }
        var resident = 0
        let waited = try converse(with: address, of: command, &resident)
        let ended = command.end(within: Self.endSecondsMax)
        let isKept = FileManager.default.fileExists(atPath: place.path(folder))
        if isKept { try FileManager.default.removeItem(atPath: place.path(folder)) }
        return Outcome(
            ended: ended, waitedSeconds: waited, residentBytes: resident, isKept: isKept)
    }

    /// Answers how long the receiver stayed connected behind the last byte.
    private func converse(
        with address: ChannelAddress, of command: RunningCommand, _ resident: inout Int
    ) throws -> Double {
        let main = try StreamSocket.connect(to: address)
        // A receiver that has refused the main channel may be gone by now.
        let urgent = feed.preempt == nil ? nil : try? Channel(StreamSocket.connect(to: address))
        var sent = 0
        var urgentSent = 0
        var isUrgentDue = feed.isPreemptEarly
        var input = ReceiveBuffer(capacityBytes: 1 << 16)
        var lastSentAt = Date()
        let limit = Date(timeIntervalSinceNow: Self.endSecondsMax)
        while Date() < limit {
            resident = max(resident, Self.peakResidentBytes(of: command.processID))
            do throws(Errno) {
                let piece = min(feed.main.count, sent + Self.pieceBytes)
                // An end that was said cannot be followed by anything, not even by nothing.
                let more =
                    sent == piece
                    ? 0
                    : try main.sendWithoutWaiting(
                        feed.main.span.extracting(0..<piece), from: sent)
                if more > 0 { lastSentAt = Date() }
                sent += more
                if let urgent, let bytes = feed.preempt, isUrgentDue, urgentSent < bytes.count {
                    urgentSent += try urgent.socket.sendWithoutWaiting(
                        bytes.span, from: urgentSent)
                }
                if more > 0, sent == feed.main.count {
                    if feed.ending == .leaves { break }
                    if feed.ending == .closesSending { main.shutDownSending() }
                }
                if let received = try input.fill(from: main, wait: false) {
                    if received == 0 { break }
                    if input.withBytes({ Self.holds(Self.pong, $0) }) { isUrgentDue = true }
                    // A source that was told that all is there leaves.
                    if input.withBytes({ Self.holds(Self.shut, $0) }) { break }
                    // What is kept may hold the beginning of a message.
                    input.consume(max(0, input.count - Self.pong.count))
                    continue
                }
                if more > 0, !feed.isSlow { continue }
            } catch {
                break
            }
            let isWriting = sent < feed.main.count
            var poller = Poller(capacity: 1)
            poller.watch(main)
            _ = poller.wait(
                timeoutNanoseconds: feed.isSlow && isWriting
                    ? Self.slowTickNanoseconds : Self.tickNanoseconds)
        }
        return Date().timeIntervalSince(lastSentAt)
    }

    /// The answer to the ping behind the package.
    private static let pong: [UInt8] = [0, 2, 0, 4, 0, 0, 0, 4]

    private static let shut: [UInt8] = [0, 1, 0, 4, 0, 0, 0, 0]

    private static func holds(_ message: [UInt8], _ answers: Span<UInt8>) -> Bool {
        guard answers.count >= message.count else { return false }
        for start in 0...answers.count - message.count {
            var matching = 0
            while matching < message.count, answers[start + matching] == message[matching] {
                matching += 1
            }
            if matching == message.count { return true }
        }
        return false
    }

    /// Holds what cannot be copied.
    private final class Channel {
        let socket: StreamSocket
        init(_ socket: consuming StreamSocket) { self.socket = socket }
    }

    /// The most memory that a process has had at once; 0 when it has ended.
    private static func peakResidentBytes(of process: Int32) -> Int {
        let status = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line.flatMap { Int($0.filter(\.isNumber)) } ?? 0) << 10
    }
}

extension LiveFeed {
    /// What is wrong with how a receiver ended, or `nil`.
    func fault(of outcome: Outcome) -> String? {
        let ended = outcome.ended
        let problems = ended.errorLines.filter { $0.hasPrefix("postcopy: ") }
        switch ended.status {
        case 0 where problems.isEmpty: break
        case 1 where problems.count == 1 && ended.errorLines.last == problems[0]: break
        default: return "it ended badly"
        }
        // A machine that is whole here stays, also when its source does not hear of it any more.
        let saysKept = problems.contains { $0.contains("the machine is whole in ") }
        if outcome.isKept != (feed.isParked && (ended.status == 0 || saysKept)) {
            return outcome.isKept ? "a failed one was kept" : "it is not where it should be"
        }
        guard outcome.waitedSeconds < Self.endSecondsMax else { return "it did not end" }
        guard outcome.residentBytes < residentBytesMax else {
            return "it took \(outcome.residentBytes >> 20) MiB"
        }
        return nil
    }
}
