import Foundation
import LinuxKernel
import Testing

/// What other programs make of the command's terminal and of its metrics.
@Suite(.serialized) struct OutsideTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    private static let python = folder.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent(".build/interop/bin/python3").path
    private static let hasPython = FileManager.default.isExecutableFile(atPath: python)

    /// Some three seconds in postcopy: thirty frames, or many more where others compute too.
    private static let run = [
        "run", "--memory", "96M", "--no-precopy", "--max-postcopy-bandwidth", "32MB/s",
        "--run-on", "100ms", "--link-limit", "5s",
    ]

    @Test(
        "the live view is redrawn in place on terminals of any size that are resized, and leaves nothing",
        .enabled(if: hasPython, "needs the Python packages that make test installs"),
        arguments: [
            ["24 80 40 keep", "LC_ALL=C.UTF-8"], ["24 80 20 reflow", "LC_ALL=C.UTF-8"],
            ["24 40 100 reflow", "LC_ALL=C.UTF-8"], ["24 20 20 keep", "LC_ALL=C", "NO_COLOR=1"],
            ["4 60 30 reflow", "LC_ALL=C"],
        ])
    func terminal(_ setting: [String]) throws {
        let sizes = setting[0].split(separator: " ").map(String.init)
        try passes("live_view.py", sizes, ["TERM=xterm"] + setting.dropFirst(), Self.run)
    }

    @Test(
        "who interrupts a run finds the terminal as it was, without the view",
        .enabled(if: hasPython, "needs the Python packages that make test installs"))
    func interrupted() throws {
        let run = ["run", "--memory", "16M", "--warm-up", "60s"]
        let sizes = ["24", "60", "60", "interrupt"]
        try passes("live_view.py", sizes, ["TERM=xterm", "LC_ALL=C.UTF-8"], run)
    }

    @Test(
        "Prometheus's parser reads the metrics of a running migration, and at last what the report says",
        .enabled(if: hasPython, "needs the Python packages that make test installs"),
        arguments: [
            ["--no-precopy", "--fill", "mixed", "--max-postcopy-bandwidth", "60MB/s"],
            ["--switch-after-rounds", "2", "--max-bandwidth", "60MB/s"],
        ])
    func metrics(_ options: [String]) throws {
        let run = ["run", "--memory", "64M", "--run-on", "2s"] + options
        try passes("scrape.py", [], [], run)
    }

    @Test("metrics are gone with the command, and so is the file of their socket")
    func socket() throws {
        try inPlace { place in
            let path = place.path("metrics")
            let command = try RunningCommand(
                ["run", "--memory", "64M", "--warm-up", "60s", "--metrics", "unix:\(path)"],
                in: place)
            _ = try #require(command.line(containing: "metrics at unix:\(path)", within: 10))
            let socket = try StreamSocket.connect(to: .unix(path: path))
            try socket.send(Array("GET /metrics HTTP/1.1\r\n\r\n".utf8).span)
            socket.limitReceives(nanoseconds: 10_000_000_000)
            var buffer = ReceiveBuffer(capacityBytes: 1 << 16)
            while try buffer.fill(from: socket, wait: true) != 0 {}
            #expect(String(decoding: buffer.bytes, as: UTF8.self).hasSuffix("# EOF\n"))
            command.signal(SIGINT)
            #expect(command.end(within: 20).status == 130)
            #expect(try place.leftovers(within: 5) == [])
        }
    }

    @Test(
        "an address for metrics that cannot be had is named before anything starts",
        arguments: ["run", "send tcp:127.0.0.1:1", "receive tcp:127.0.0.1:0"])
    func taken(_ words: String) throws {
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        try inPlace { place in
            let command = try RunningCommand(
                words.split(separator: " ").map(String.init)
                    + ["--memory", "4M", "--metrics", "\(listener.address)"], in: place)
            let ended = command.end(within: 15)
            #expect(ended.status == 1 && ended.errorLines.count == 1, "\(ended)")
            let line = ended.errorLines.first ?? ""
            #expect(line.contains("--metrics") && line.contains("\(listener.address)"), "\(ended)")
            #expect(line.contains("in use") && line.contains("port 0"), "\(ended)")
            #expect(place.leftovers() == [])
        }
    }

    /// Runs a script that watches the command.
    private func passes(
        _ script: String, _ arguments: [String], _ environment: [String], _ command: [String]
    ) throws {
        try inPlace { place in
            let path = Self.folder.appendingPathComponent("scripts/\(script)").path
            let watching = try RunningCommand(
                environment + [Self.python, path] + arguments
                    + [RunningCommand.program.path] + command,
                in: place, program: URL(fileURLWithPath: "/usr/bin/env"))
            let ended = watching.end(within: 120)
            #expect(ended.status == 0, "\(ended)")
            #expect(place.leftovers() == [])
        }
    }
}
