import ArgumentParser
import Foundation
import Postcopy
import Testing

@testable import PostcopyCommand

/// When `run` cuts its link, and what the report makes of it.
@Suite struct BreakPlanTests {
    @Test("cuts come at the share that was asked for, then spread over the rest", arguments: 1...10)
    func spread(times: Int) {
        var plan = BreakPlan(after: 0.3, times: times, lastingNanoseconds: 1)
        var cuts: [Int] = []
        for percent in 0...100 where plan.isDue(at: Double(percent) / 100) { cuts.append(percent) }
        #expect(cuts.count == times && plan.done == times)
        #expect(cuts.first == 30)
        let gaps = zip(cuts, cuts.dropFirst()).map { $1 - $0 }
        #expect((gaps.max() ?? 0) - (gaps.min() ?? 0) <= 1, "\(cuts)")
    }

    @Test("a share that leaps past the first threshold leaves room for the others")
    func leap() {
        var plan = BreakPlan(after: 0.1, times: 2, lastingNanoseconds: 1)
        let due = [0.05, 0.8, 0.81, 0.89, 0.91, 1].map { plan.isDue(at: $0) }
        #expect(due == [false, true, false, false, true, false])
    }

    @Test("a share is a number of percent, with its sign or without")
    func share() throws {
        #expect(try Share(parsing: "30%") == Share(parsing: "30"))
        #expect(try Share(parsing: "0%").fraction == 0)
        for text in ["", "%", "100%", "-1%", "+3%", "3.5%", "a", "30 %", "99999999999999999999"] {
            #expect(throws: Share.ParseError.self) { try Share(parsing: text) }
        }
    }

    @Test("what says when the workload moves is told from what does not")
    func usual() throws {
        let other = try SwitchoverOptions.parse(["--release-ram"])
        #expect(other.isUsual)
        for words in [["--no-precopy"], ["--switch-after", "1s"], ["--downtime-limit", "1ms"]] {
            let options = try SwitchoverOptions.parse(words)
            #expect(!options.isUsual)
        }
    }

    @Test("memory that is given back and a return that was asked for do not go together")
    func released() throws {
        var options = MigrationOptions()
        options.releasesRAM = true
        for mode in ["auto", "by-hand"] {
            let choices = try RecoveryChoices.parse(["--recover", mode])
            #expect(throws: Refusal.self) { try choices.apply(to: &options) }
        }
        try RecoveryChoices.parse(["--recover", "none"]).apply(to: &options)
        #expect(options.recovery.mode == .none)
        try RecoveryChoices.parse([]).apply(to: &options)
        #expect(options.recovery.mode == .automatic)
    }

    @Test("a cut is told from the next by when a side paused")
    func matching() {
        func broken(_ pausedAt: UInt64, page: UInt64?) -> BreakFigures {
            BreakFigures(
                problem: "cut", heardAtNs: 0, pausedAtNs: pausedAt, firstPageAtNs: page, attempts: 1
            )
        }
        let cuts = [
            CutFigures(cutAtNs: 100, healedAtNs: 200), CutFigures(cutAtNs: 1_000, healedAtNs: nil),
        ]
        let matched = CutFigures.list(
            cuts, source: [broken(90, page: nil), broken(103, page: nil)],
            destination: [broken(105, page: nil), broken(210, page: 240), broken(1_007, page: nil)])
        #expect(matched.map(\.sourcePausedAfterNs) == [3, nil])
        #expect(matched.map(\.destinationPausedAfterNs) == [5, 7])
        #expect(matched.map(\.firstPageAfterNs) == [40, nil])
    }
}

/// The proxy itself, between two sockets of this process.
@Suite struct LinkBreakerTests {
    /// Longer than anything here takes on a loaded machine.
    private static let limitNanoseconds: UInt64 = 20_000_000_000

    /// The bytes that a connection brings until it ends; whether it was reset.
    private static func drain(_ socket: borrowing StreamSocket) -> (bytes: [UInt8], isReset: Bool) {
        var buffer = ReceiveBuffer(capacityBytes: 1 << 16)
        var bytes: [UInt8] = []
        do throws(Errno) {
            while let count = try buffer.fill(from: socket, wait: true), count > 0 {
                buffer.withBytes { span in for index in span.indices { bytes.append(span[index]) } }
                buffer.consume(count)
            }
            return (bytes, false)
        } catch { return (bytes, true) }
    }

    private static func read(_ count: Int, from socket: borrowing StreamSocket) throws -> [UInt8] {
        var buffer = ReceiveBuffer(capacityBytes: count)
        while buffer.count < count {
            try #require(buffer.fill(from: socket, wait: true) ?? 0 > 0)
        }
        return buffer.withBytes { span in span.indices.map { span[$0] } }
    }

    private func withBreaker(
        _ body: (LinkBreaker, borrowing Listener) throws -> Void
    ) throws {
        let local = try ChannelAddress(parsing: "tcp:127.0.0.1:0")
        let listener = try Listener(at: local)
        let breaker = try LinkBreaker(between: local, and: listener.address)
        defer { breaker.end() }
        try body(breaker, listener)
    }

    private func connect(_ breaker: LinkBreaker) throws -> StreamSocket {
        let socket = try StreamSocket.connect(to: breaker.address)
        socket.limitWaits(nanoseconds: Self.limitNanoseconds)
        return socket
    }

    private func accept(_ listener: borrowing Listener) throws -> StreamSocket {
        var poller = Poller(capacity: 1)
        poller.watch(listener)
        try #require(poller.wait(timeoutNanoseconds: Self.limitNanoseconds) > 0)
        let socket = try listener.accept()
        socket.limitWaits(nanoseconds: Self.limitNanoseconds)
        return socket
    }

    @Test("what is said arrives whole, in order and with its end, in both directions")
    func forwards() throws {
        try withBreaker { breaker, listener in
            let near = try connect(breaker)
            let far = try accept(listener)
            let sent = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ ($0 >> 8)) }
            let box = OneUse(near)
            let sender = try JoinableThread<Bool>(name: "sender") {
                let near = box.take()
                do throws(Errno) {
                    try near.send(sent.span)
                    near.shutDownSending()
                    let answer = Self.drain(near)
                    return answer.bytes == [7, 8, 9] && !answer.isReset
                } catch { return false }
            }
            let arrived = Self.drain(far)
            try far.send(([7, 8, 9] as [UInt8]).span)
            far.shutDownSending()
            let isAnswered = sender.join()
            #expect(arrived.bytes == sent && !arrived.isReset)
            #expect(isAnswered)
            #expect(breaker.cuts.isEmpty && breaker.isWhole)
        }
    }

    @Test("a cut resets what stands and what comes, and then all is as before")
    func cut() throws {
        try withBreaker { breaker, listener in
            let near = try connect(breaker)
            let far = try accept(listener)
            try near.send(([1] as [UInt8]).span)
            let first = try Self.read(1, from: far)
            #expect(first == [1])
            breaker.cut(lastingNanoseconds: 300_000_000)
            let ends = (near: Self.drain(near).isReset, far: Self.drain(far).isReset)
            #expect(ends.near && ends.far)
            #expect(!breaker.isWhole)
            let during = try connect(breaker)
            let refused = Self.drain(during)
            #expect(refused.isReset && refused.bytes.isEmpty)
            let healed = Date(timeIntervalSinceNow: 20)
            let never = try EventFlag()
            while !breaker.isWhole, Date() < healed {
                _ = never.wait(timeoutNanoseconds: 5_000_000)
            }
            let again = try connect(breaker)
            let other = try accept(listener)
            try again.send(([2] as [UInt8]).span)
            let second = try Self.read(1, from: other)
            #expect(second == [2])
            let cuts = breaker.cuts
            let lasted = try #require(cuts.first?.healedAtNs) - cuts[0].cutAtNs
            #expect(cuts.count == 1 && lasted >= 300_000_000)
        }
    }
}
