import Foundation
import Testing

/// Everything here starts processes and measures time: one at a time, on any machine.
@Suite(.serialized) struct RunTests {
    /// Short, but with requests: memory is large enough that pages are still missing when the
    /// workload asks for them.
    static let quick = [
        "--memory", "64M", "--warm-up", "50ms", "--run-on", "50ms", "--no-precopy", "--json", "-",
    ]

    @Test(
        "a workload of each pattern arrives whole",
        arguments: ["sequential", "stride", "uniform", "zipf", "chase", "idle"])
    func pattern(_ pattern: String) throws {
        // An idle guest touches a page every 10 ms: its memory must take longer than that to arrive.
        let mebibytes = pattern == "idle" ? 256 : 64
        let ended = try run(["--pattern", pattern, "--memory", "\(mebibytes)M"])
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.number("verify", "mismatches") == 0)
        #expect(ended.number("verify", "pages") == mebibytes << 8)
        #expect((ended.number("ram", "postcopy-requests") ?? 0) > 0)
    }

    @Test(
        "memory of each kind and content arrives whole, over either transport",
        arguments: [
            ["--backing", "memfd"], ["--fill", "text"], ["--fill", "zero"], ["--fill", "mixed"],
            ["--transport", "unix"], ["--no-preempt"], ["--vcpus", "5", "--hot-set", "20K"],
            ["--write-fraction", "1", "--rate", "0", "--hot-set", "1M"],
            ["--memory", "4K", "--vcpus", "1"], ["--heal"], ["--heal", "--backing", "memfd"],
        ])
    func variation(_ arguments: [String]) throws {
        let ended = try run(arguments)
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.number("verify", "mismatches") == 0)
    }

    @Test(
        "huge pages arrive whole and are given back",
        .enabled(if: HugePagePool.isOurs, "needs root, to reserve huge pages"))
    func hugePages() throws {
        try HugePagePool.raised(by: 64) {
            let free = HugePagePool.read("free_hugepages")
            let ended = try run(["--backing", "hugetlb", "--page-size", "2M"])
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.number("ram", "page-size") == 2 << 20)
            let placed = ["urgent-pages", "background-pages"].map { ended.number("ram", $0) ?? 0 }
            #expect(placed.reduce(0, +) == (64 << 20) / 4096, "all in target pages")
            #expect(HugePagePool.read("free_hugepages") == free)
        }
    }

    @Test(
        "locked memory arrives whole, and is locked at the end",
        .enabled(if: geteuid() == 0, "needs root, to lock as much"))
    func lockedMemory() throws {
        let ended = try run(["--lock-memory"])
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.number("verify", "mismatches") == 0)
        let destination = try #require(ended.json["destination"] as? [String: Any])
        #expect(destination["huge-bytes-at-end"] != nil && destination["lock-problem"] == nil)
    }

    @Test("the report says what happened, under the names that were promised")
    func report() throws {
        let ended = try run(["--seed", "77"])
        #expect(ended.number("schema") == 1)
        #expect(ended.json["status"] as? String == "completed")
        #expect(ended.number("workload", "seed") == 77)
        let total = try #require(ended.number("total-time-ns"))
        let downtime = try #require(ended.number("downtime-ns"))
        #expect(downtime > 0 && downtime < total)
        #expect(ended.number("ram", "postcopy-bytes") ?? 0 >= 64 << 20)
        #expect((ended.json["postcopy-vcpu-blocktime-ns"] as? [Int])?.count == 2)
        #expect(ended.number("postcopy-latency-ns", "count") ?? 0 > 0)
        #expect((ended.json["phases"] as? [Any])?.isEmpty == false)
        let resident = try #require(ended.number("destination", "peak-resident-bytes"))
        #expect(resident <= (64 + 64) << 20)
    }

    @Test("a report in a file appears whole and alone")
    func reportFile() throws {
        try inPlace { place in
            let arguments = ["run"] + Self.quick.dropLast(2)
            let command = try RunningCommand(
                arguments + ["--json", place.path("report.json"), "--quiet"], in: place)
            let ended = command.end(within: 30)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.output.isEmpty && ended.errorLines.isEmpty)
            let data = try Data(contentsOf: URL(fileURLWithPath: place.path("report.json")))
            let report = try JSONSerialization.jsonObject(with: data) as? [String: Any]
            #expect(report?["status"] as? String == "completed")
            #expect(place.leftovers(expecting: ["report.json"]) == [])
        }
    }

    @Test("send and receive do in two processes what run does, and each reports its half")
    func twoHalves() throws {
        try inPlace { place in
            let uri = "unix:\(place.path("socket"))"
            let receiver = try RunningCommand(
                ["receive", uri, "--memory", "64M", "--json", "-"], in: place)
            _ = try #require(receiver.line(containing: "listening on \(uri)", within: 10))
            let sender = try RunningCommand(["send", uri] + Self.quick, in: place)
            let (sent, received) = (sender.end(within: 30), receiver.end(within: 30))
            #expect(sent.status == 0, "\(sent)")
            #expect(received.status == 0, "\(received)")
            #expect(sent.json["command"] as? String == "send")
            #expect(sent.number("downtime-ns") ?? 0 > 0)
            #expect(received.number("verify", "mismatches") == 0)
            #expect(received.number("workload", "seed") == sent.number("workload", "seed"))
            #expect(place.leftovers() == [])
        }
    }

    /// Runs a migration in a place of its own and expects that nothing stays behind.
    private func run(_ arguments: [String]) throws -> RunningCommand.Ended {
        try inPlace { place in
            let command = try RunningCommand(["run"] + Self.quick + arguments, in: place)
            let ended = command.end(within: 60)
            #expect(place.leftovers() == [])
            return ended
        }
    }
}
