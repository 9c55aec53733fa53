import Foundation
import Glibc
import Testing

/// Memory that is sent while the workload runs, and when the workload moves.
@Suite(.serialized) struct PrecopyRunTests {
    private static let common = [
        "run", "--memory", "64M", "--hot-set", "16M", "--warm-up", "20ms", "--run-on", "20ms",
        "--seed", "5", "--json", "-",
    ]

    private func run(_ arguments: [String]) throws -> RunningCommand.Ended {
        try inPlace { place in
            let command = try RunningCommand(Self.common + arguments, in: place)
            let ended = command.end(within: 60)
            #expect(place.leftovers() == [])
            return ended
        }
    }

    private func expectVerified(_ ended: RunningCommand.Ended) {
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.number("verify", "mismatches") == 0)
        #expect(ended.number("verify", "pages") == 16_384)
        #expect(ended.number("ram", "remaining") == 0)
    }

    private func rule(_ ended: RunningCommand.Ended) -> String? {
        (ended.json["switchover"] as? [String: Any])?["rule"] as? String
    }

    @Test(
        "a workload moves by each rule, of each kind of memory",
        arguments: [["--backing", "anonymous"], ["--backing", "memfd"], ["--no-preempt"]])
    func byRounds(_ arguments: [String]) throws {
        let ended = try run(["--switch-after-rounds", "2", "--pattern", "zipf"] + arguments)
        expectVerified(ended)
        #expect(rule(ended) == "after-rounds")
        #expect((ended.json["rounds"] as? [Any])?.count ?? 0 >= 2)
        #expect(ended.number("discards", "pages") ?? 0 > 0)
        #expect(ended.number("ram", "precopy-bytes") ?? 0 >= 64 << 20)
        let late = try run(["--no-precopy", "--pattern", "zipf"] + arguments)
        expectVerified(late)
        let (few, many) = (
            ended.number("ram", "postcopy-bytes"), late.number("ram", "postcopy-bytes")
        )
        #expect(try #require(few) < #require(many))
    }

    @Test(
        "huge pages are discarded whole and given back",
        .enabled(if: HugePagePool.isOurs, "needs root, to reserve huge pages"))
    func hugePages() throws {
        try HugePagePool.raised(by: 64) {
            let free = HugePagePool.read("free_hugepages")
            let ended = try run(["--switch-after-rounds", "2", "--backing", "hugetlb"])
            expectVerified(ended)
            #expect(try #require(ended.number("discards", "pages")) % 512 == 0)
            #expect(HugePagePool.read("free_hugepages") == free)
        }
    }

    @Test("a rest that fits is sent at once, and nobody waits for a page")
    func completes() throws {
        let ended = try run(["--downtime-limit", "1s", "--pattern", "idle"])
        expectVerified(ended)
        #expect(rule(ended) == "fits-downtime")
        #expect(ended.number("ram", "postcopy-requests") == 0)
        #expect(ended.number("discards", "pages") == 1)
    }

    @Test("time moves it, and so does a signal")
    func byHand() throws {
        let timed = try run(["--switch-after", "150ms"])
        expectVerified(timed)
        #expect(rule(timed) == "after-time")
        try inPlace { place in
            let command = try RunningCommand(Self.common + ["--switch-after", "60s"], in: place)
            _ = try #require(command.line(containing: "active", within: 10))
            command.signal(SIGUSR1)
            let ended = command.end(within: 20)
            expectVerified(ended)
            #expect(rule(ended) == "by-hand")
        }
    }

    @Test("a run that is told to stop while it sends cancels, verifies and clears up")
    func interrupted() throws {
        try inPlace { place in
            let command = try RunningCommand(Self.common + ["--switch-after", "60s"], in: place)
            _ = try #require(command.line(containing: "active", within: 10))
            command.signal(SIGINT)
            let ended = command.end(within: 20)
            #expect(ended.status == 130, "\(ended)")
            #expect(ended.json["status"] as? String == "cancelled")
            #expect(ended.number("verify", "mismatches") == 0)
            #expect(place.leftovers() == [])
        }
    }

    @Test("a destination that dies while it receives leaves the workload running and right")
    func killed() throws {
        try inPlace { place in
            let command = try RunningCommand(Self.common + ["--switch-after", "60s"], in: place)
            let line = try #require(command.line(containing: "destination is process", within: 10))
            let child = try #require(line.split(separator: " ").compactMap { Int32($0) }.first)
            _ = try #require(command.line(containing: "active", within: 10))
            #expect(kill(child, SIGKILL) == 0)
            let ended = command.end(within: 20)
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.json["status"] as? String == "failed")
            #expect(ended.number("verify", "mismatches") == 0)
            #expect(place.leftovers() == [])
        }
    }

    @Test("the source gives its memory back as it is sent")
    func released() throws {
        let ended = try run(["--no-precopy", "--release-ram"])
        expectVerified(ended)
        #expect(ended.number("ram", "released-bytes") ?? 0 > 32 << 20)
    }
}
