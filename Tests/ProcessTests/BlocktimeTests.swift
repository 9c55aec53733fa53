import Foundation
import Testing

/// `postcopy blocktime`, and the options that feed it, as their user meets them.
@Suite struct BlocktimeTests {
    private func blocktime(
        _ arguments: [String], in place: TestPlace
    ) throws -> RunningCommand.Ended {
        try RunningCommand(["blocktime"] + arguments, in: place).end(within: 20)
    }

    @Test("what cannot be read ends in one line, and in the status of such an end")
    func refused() throws {
        try inPlace { place in
            let cases: [(name: String, content: String, says: String)] = [
                ("empty", "", "is empty"), ("text", "hello", "is neither"),
                ("later.json", "{\"schema\": 7}", "schema 7"),
                ("cut.log", "PCFAULTS\u{1}", "is cut off at byte 9"),
            ]
            for (name, content, says) in cases {
                try Data(content.utf8).write(to: URL(fileURLWithPath: place.path(name)))
                let ended = try blocktime([place.path(name)], in: place)
                #expect(ended.status == 1 && ended.output.isEmpty, "\(ended)")
                #expect(ended.errorLines.count == 1)
                #expect(ended.errorLines.first?.contains(says) == true, "\(ended)")
            }
            let both = try blocktime(["--json", "-", "--csv", "-", place.path("empty")], in: place)
            #expect(both.status == 64, "\(both)")
        }
    }

    @Test("a place that cannot be written is refused before anything moves")
    func untried() throws {
        try inPlace { place in
            for option in ["--trace", "--fault-log"] {
                let path = place.path("none/file")
                let ended = try RunningCommand(
                    ["run", "--memory", "4M", option, path], in: place
                ).end(within: 20)
                #expect(ended.status == 1 && ended.errorLines.count == 1, "\(ended)")
                #expect(ended.errorLines.first?.contains("\(option) \(path)") == true, "\(ended)")
            }
            #expect(place.leftovers().isEmpty)
        }
    }

    @Test("a run's report is read back, at the width of a narrow terminal as well")
    func readBack() throws {
        try inPlace { place in
            let report = place.path("run.json")
            let run = try RunningCommand(
                [
                    "run", "--memory", "8M", "--no-precopy", "--warm-up", "50ms", "--run-on",
                    "50ms",
                    "--quiet", "--json", report,
                ], in: place
            ).end(within: 60)
            #expect(run.status == 0, "\(run)")
            let ended = try blocktime(["--json", "-", report, report, "--merge"], in: place)
            #expect(ended.status == 0, "\(ended)")
            let runs = try #require(ended.json["runs"] as? [[String: Any]])
            #expect(runs.count == 2 && ended.json["merged"] != nil)
            #expect(ended.errorLines.contains("blocktime"))
            #expect(place.leftovers(expecting: ["run.json"]).isEmpty)
        }
    }
}
