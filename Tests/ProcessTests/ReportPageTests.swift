import Foundation
import Testing

/// `postcopy report` as its user meets it.
@Suite struct ReportPageTests {
    private func report(
        _ arguments: [String], in place: TestPlace, input: FileHandle = .nullDevice
    ) throws -> RunningCommand.Ended {
        try RunningCommand(["report"] + arguments, in: place, input: input).end(within: 20)
    }

    @Test("a page is made of what a run says, from a file and through pipes alike")
    func page() throws {
        try inPlace { place in
            let run = try RunningCommand(["run", "--quiet"] + RunTests.quick, in: place)
                .end(within: 30)
            #expect(run.status == 0, "\(run)")
            let path = place.path("run.json")
            try Data(run.output.utf8).write(to: URL(fileURLWithPath: path))
            let drawn = try report([path, "-o", place.path("page.html")], in: place)
            #expect(drawn.status == 0 && drawn.output.isEmpty && drawn.errorLines == [], "\(drawn)")
            let html = try String(contentsOfFile: place.path("page.html"), encoding: .utf8)
            #expect(html.contains("<h1>The migration completed in "))
            #expect(html.contains("<figure id=\"latency\""))
            #expect(html.hasSuffix("</html>\n"))

            let input = try #require(FileHandle(forReadingAtPath: path))
            let piped = try report(["-", "--output", "-"], in: place, input: input)
            #expect(piped.status == 0 && piped.errorLines == [], "\(piped)")
            #expect(piped.output == html.replacing("run.json", with: "standard input"))
            #expect(place.leftovers(expecting: ["run.json", "page.html"]) == [])
        }
    }

    @Test(
        "what is no report ends in one line and 1, what cannot be in one line and 64, with no page")
    func refusals() throws {
        try inPlace { place in
            let path = place.path("run.json")
            try Data("{\"schema\": 7, \"strange\": {}}".utf8).write(to: URL(fileURLWithPath: path))
            let cases: [([String], Int32, String)] = [
                (
                    [path, "-o", place.path("page.html")], 1,
                    "schema 7, which is newer than this program reads (1)"
                ),
                ([place.path("none"), "-o", place.path("page.html")], 1, "No such file"),
                ([place.folder.path, "-o", place.path("page.html")], 1, "it is a folder"),
                ([path, "-o", path], 64, "is what is read"),
                ([path, "-o", place.path("none/page.html")], 1, "there is no folder"),
                ([path], 64, "--output"),
                (["-", "-o", "-"], 1, "standard input is empty"),
            ]
            for (arguments, status, words) in cases {
                let ended = try report(arguments, in: place)
                #expect(ended.status == status, "\(arguments): \(ended)")
                #expect(
                    ended.errorLines.count == 1 && ended.errorLines[0].contains(words), "\(ended)")
                #expect(ended.output.isEmpty)
            }
            #expect(place.leftovers(expecting: ["run.json"]) == [])
        }
    }
}
