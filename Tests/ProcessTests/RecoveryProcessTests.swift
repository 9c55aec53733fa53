import Foundation
import Glibc
import LinuxKernel
import TestSupport
import Testing

/// Two processes whose link breaks, without anybody at hand.
@Suite(.serialized) struct RecoveryProcessTests {
    struct Pair {
        let sender: RunningCommand
        let receiver: RunningCommand

        /// A test that gives up leaves nobody behind.
        func kill() {
            for side in [sender, receiver] { side.signal(SIGKILL) }
        }
    }

    enum Side: CaseIterable { case source, destination }

    /// Pages travel for some seconds, so that the link can break meanwhile.
    static func pair(
        in place: TestPlace, uri: String, network: TestNetwork? = nil, memory: String = "96M",
        warmUp: String = "50ms", bandwidth: String = "30MB/s"
    ) throws -> Pair {
        let receiver = try RunningCommand(
            ["receive", uri, "--memory", memory, "--json", "-"], in: place, network: network)
        let line = try #require(receiver.line(containing: "listening on ", within: 20))
        let address = try #require(line.components(separatedBy: "listening on ").last)
        let sender = try RunningCommand(
            [
                "send", address, "--memory", memory, "--json", "-", "--rate", "1000",
                "--warm-up", warmUp, "--no-precopy", "--max-postcopy-bandwidth", bandwidth,
            ], in: place)
        return Pair(sender: sender, receiver: receiver)
    }

    static func expectCompleted(
        _ pair: Pair, line: SourceLocation = #_sourceLocation
    ) {
        let received = pair.receiver.end(within: 60)
        let sent = pair.sender.end(within: 30)
        for side in [sent, received] {
            #expect(side.status == 0, "\(side)", sourceLocation: line)
            #expect(side.json["status"] as? String == "completed", sourceLocation: line)
        }
        #expect(received.number("verify", "mismatches") == 0, "\(received)", sourceLocation: line)
        #expect(received.number("verify", "pages") ?? 0 > 0, "\(received)", sourceLocation: line)
    }

    /// Later than this a pause is no pause that nobody notices; the limit of the link is 250 ms.
    private static let pauseSecondsMax = 5.0

    @Test(
        "a side that is frozen is noticed by the other, and goes on when it is thawed",
        arguments: Side.allCases, ["unix", "tcp"])
    func frozen(side: Side, transport: String) throws {
        try inPlace { place in
            let uri = transport == "tcp" ? "tcp:127.0.0.1:0" : "unix:\(place.path("socket"))"
            let pair = try Self.pair(in: place, uri: uri)
            defer { pair.kill() }
            let (frozen, other) =
                side == .source ? (pair.sender, pair.receiver) : (pair.receiver, pair.sender)
            _ = try #require(other.line(containing: "postcopy-active", within: 20))
            frozen.signal(SIGSTOP)
            defer { frozen.signal(SIGCONT) }
            let stoppedAt = Date()
            _ = try #require(other.line(containing: "postcopy-paused", within: 10))
            #expect(Date().timeIntervalSince(stoppedAt) < Self.pauseSecondsMax)
            // Attempts at a peer that accepts and says nothing.
            pause(milliseconds: 700)
            frozen.signal(SIGCONT)
            Self.expectCompleted(pair)
            #expect(place.leftovers() == [])
        }
    }

    @Test(
        "a route that drops everything, and comes back",
        .enabled(if: TestNetwork.isPossible, "needs root and ip (iproute2)"), arguments: 1...2)
    func droppedRoute(times: Int) throws {
        let network = try TestNetwork()
        defer { withExtendedLifetime(network) {} }
        try inPlace { place in
            let pair = try Self.pair(
                in: place, uri: "tcp:\(TestNetwork.innerAddress):0", network: network)
            defer { pair.kill() }
            _ = try #require(pair.sender.line(containing: "postcopy-active", within: 20))
            for time in 1...times {
                try network.setLink(isUp: false)
                let downAt = Date()
                for side in [pair.sender, pair.receiver] {
                    let isPaused = side.hears(time, linesContaining: "postcopy-paused", within: 10)
                    #expect(isPaused)
                }
                #expect(Date().timeIntervalSince(downAt) < Self.pauseSecondsMax)
                pause(milliseconds: 500)
                try network.setLink(isUp: true)
                let isBack = pair.sender.hears(
                    time + 1, linesContaining: "postcopy-active", within: 20)
                #expect(isBack)
            }
            Self.expectCompleted(pair)
            #expect(place.leftovers() == [])
        }
    }
}

/// Lets that much time pass: how long a state lasts that a test makes, and nothing that it waits for.
func pause(milliseconds: Int) {
    guard let never = try? EventFlag() else { return }
    _ = never.wait(timeoutNanoseconds: UInt64(milliseconds) * 1_000_000)
}
