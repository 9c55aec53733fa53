import ArgumentParser
import Foundation
import Postcopy
import TestSupport
import Testing

@testable import PostcopyCommand

@Suite("how long a guest was blocked, by its files")
struct BlocktimeTests {
    @Test("the parts of a run sum up to its total", arguments: 0..<20 as Range<UInt64>)
    func sums(seed: UInt64) throws {
        let run = BlocktimeRun(recordedLog(seed: seed), name: "run")
        let total = (run.vcpus + run.others).reduce(0) { $0 + $1.totalNs }
        #expect(run.all.totalNs == total)
        #expect(run.attributedNs == total)
        #expect(run.attribution.reduce(0) { $0 + $1.ns } == total)
        #expect(run.attribution.reduce(0) { $0 + ($1.waits ?? 0) } == 300)
        #expect(run.dist?.reduce(0, +) == 300)
        #expect(run.histogram?.counts.reduce(0, +) == 300)
        for wait in run.worst { #expect(wait.parts.reduce(0) { $0 + $1.ns } == wait.ns) }
        #expect(run.worst.map(\.ns) == run.worst.map(\.ns).sorted(by: >))
        #expect(run.others.map(\.name) == ["io, \"the\" thread"])
    }

    @Test("a report says the same as the log that it was made of")
    func report() throws {
        let log = recordedLog(seed: 1)
        var report = fullReport()
        report.postcopyVcpuBlocktimeNs = [5, 6]
        report.flight = FlightFigures(log)
        let figures = try ReportDocument(decoding: report.encoded())
        #expect(figures.flight == report.flight)
        let run = try BlocktimeRun(figures, name: "a", path: "a.json")
        let own = BlocktimeRun(log, name: "a")
        #expect(run.attribution == own.attribution && run.worst == own.worst)
        #expect(run.vcpus.map(\.totalNs) == [5, 6])
        #expect(figures.flight?.map?.faults.reduce(0) { $0 + $1[1] } == 300)
    }

    @Test("no line is wider than the terminal", arguments: [20, 21, 30, 40, 60, 80, 200])
    func widths(columns: Int) throws {
        let runs = [1, 2].map {
            BlocktimeRun(recordedLog(seed: $0), name: "a long name of run \($0)")
        }
        let documents = [
            BlocktimeDocument(runs: [runs[0]]),
            BlocktimeDocument(runs: runs, merged: .merged(runs)),
        ]
        for document in documents {
            let text = BlocktimeText(document, columns: columns).text
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            #expect(lines.allSatisfy { $0.count <= columns }, "\(text)")
            #expect(text.contains("where the"))
        }
    }

    @Test("runs are merged wait by wait")
    func merging() throws {
        let runs = [1, 2, 3].map { BlocktimeRun(recordedLog(seed: $0), name: "\($0)") }
        let merged = BlocktimeRun.merged(runs)
        #expect(merged.all.totalNs == runs.reduce(0) { $0 + $1.all.totalNs })
        #expect(merged.all.waits == 900 && merged.histogram?.counts.reduce(0, +) == 900)
        #expect(merged.vcpus[1].totalNs == runs.reduce(0) { $0 + $1.vcpus[1].totalNs })
        #expect(merged.attribution.reduce(0) { $0 + $1.ns } == merged.attributedNs)
        #expect(merged.all.maxNs == runs.compactMap(\.all.maxNs).max())
        // To within what a histogram keeps of a value.
        let lengths = [1, 2, 3].flatMap { recordedLog(seed: $0).destination?.waits ?? [] }
            .map(\.lengthNanoseconds)
        let median = Double(WaitLengths(lengths).percentile(50))
        let found = Double(try #require(merged.all.p50Ns))
        #expect(abs(found - median) <= median / 1_000)
        #expect(merged.timing?.kernelTimed == runs.reduce(0) { $0 + ($1.timing?.kernelTimed ?? 0) })
    }

    @Test("CSV is that of RFC 4180")
    func csv() throws {
        let run = BlocktimeRun(recordedLog(seed: 1), name: "one,\"two\"\n")
        let text = BlocktimeCSV(BlocktimeDocument(runs: [run])).text
        let rows = Self.parse(text)
        #expect(Set(rows.map(\.count)) == [11])
        #expect(rows.dropFirst().allSatisfy { $0[0] == "one,\"two\"\n" })
        let causes = rows.filter { $0[1] == "cause" }.compactMap { UInt64($0[3]) }
        #expect(causes.reduce(0, +) == run.attributedNs)
        #expect(rows.first { $0[1] == "other" }?[2] == "io, \"the\" thread")
        #expect(rows.count { $0[1] == "bucket" } == LatencyBuckets.bucketCount)
    }

    /// As the RFC says, and no more leniently.
    private static func parse(_ text: String) -> [[String]] {
        var rows: [[String]] = [[]]
        var field = ""
        var isQuoted = false
        var rest = Array(text.unicodeScalars)[...]
        while let next = rest.popFirst() {
            if isQuoted {
                if next != "\"" {
                    field.unicodeScalars.append(next)
                } else if rest.first == "\"" {
                    field.unicodeScalars.append(rest.removeFirst())
                } else {
                    isQuoted = false
                }
            } else if next == "\"", field.isEmpty {
                isQuoted = true
            } else if next == "," {
                rows[rows.count - 1].append(field)
                field = ""
            } else if next == "\r", rest.first == "\n" {
                rest.removeFirst()
                rows[rows.count - 1].append(field)
                field = ""
                rows.append([])
            } else {
                field.unicodeScalars.append(next)
            }
        }
        return rows.dropLast()
    }
}

@Suite("files that tell of blocktime")
struct BlocktimeFileTests {
    @Test("both sides' logs are one run, and one side's is told from a whole one")
    func sides() throws {
        try inFolder { folder in
            let both = recordedLog(seed: 4)
            var (here, there) = (both, both)
            here.source = nil
            there.destination = nil
            let paths = try [("d", here), ("s", there), ("b", both)].map { name, log in
                let place = folder.appendingPathComponent("\(name).log")
                try Data(FaultLogCodec.encode(log)).write(to: place)
                return place.path
            }
            let joined = try BlocktimeFiles.runs([paths[1], paths[0]])
            #expect(joined.map(\.name) == ["d"])
            let whole = try BlocktimeFiles.runs([paths[2]])
            #expect(joined.map(\.attribution) == whole.map(\.attribution))
            #expect(try BlocktimeFiles.runs([paths[0], paths[2]]).map(\.name) == ["d", "b"])
            let lonely = Self.refusal([paths[1]])
            #expect(lonely?.contains("\(paths[1]) holds the source's side alone") == true)
        }
    }

    /// Both sides of a migration in two logs.
    private static func sides(
        seed: UInt64, isOneHost: Bool
    ) -> (destination: FaultLog, source: FaultLog) {
        var (here, there) = (recordedLog(seed: seed), recordedLog(seed: seed))
        here.source = nil
        there.destination = nil
        guard !isOneHost, var source = there.source else { return (here, there) }
        source.side.bootID = "there"
        for index in source.services.indices {
            source.services[index].received += seed << 40
            source.services[index].begun += seed << 40
            source.services[index].written += seed << 40
        }
        there.source = source
        return (here, there)
    }

    @Test("logs of several migrations are joined with their own", arguments: [true, false])
    func pairs(isOneHost: Bool) throws {
        let sides = [1, 2, 3].map { Self.sides(seed: $0, isOneHost: isOneHost) }
        let destinations = sides.map { ("d", $0.destination) }
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let sources = order.map { ("s", sides[$0].source) }
            for logs in [destinations + sources, sources + destinations] {
                let joined = try FaultLogPairs.joined(logs)
                #expect(joined.map(\.source) == sides.map(\.source.source))
                #expect(joined.map(\.destination) == sides.map(\.destination.destination))
            }
        }
    }

    @Test("logs of two migrations are not joined")
    func strangers() {
        let (first, second) = (
            Self.sides(seed: 1, isOneHost: true), Self.sides(seed: 2, isOneHost: true)
        )
        var larger = first.source
        larger.blocks[0].lengthBytes += 4096
        for source in [second.source, larger] {
            #expect(throws: Refusal.self) {
                try FaultLogPairs.joined([("d", first.destination), ("s", source)])
            }
        }
        #expect(throws: Refusal.self, "a second time") {
            try FaultLogPairs.joined([
                ("d", first.destination), ("s", first.source), ("s", first.source),
            ])
        }
    }

    @Test("what is no such file is refused in one line that names it")
    func refused() throws {
        try inFolder { folder in
            let log = FaultLogCodec.encode(recordedLog(seed: 5))
            var damaged = log
            damaged[log.count / 2] ^= 0x10
            var later = fullReport()
            later.schema = 7
            var source = fullReport()
            source.command = SendCommand.name
            source.postcopyVcpuBlocktimeNs = nil
            var precopy = fullReport()
            precopy.postcopyVcpuBlocktimeNs = nil
            precopy.switchover = SwitchoverFigures(
                rule: "none", ending: "precopy", reason: "none", atNs: 0, remainingBytes: 0,
                owedBytes: 0, bandwidthBytesPerSecond: 0, dirtyBytesPerSecond: 0, finalSyncNs: 0)
            let cases: [(name: String, bytes: Data, says: String)] = [
                ("empty", Data(), "is empty"), ("text", Data("hello".utf8), "is neither"),
                ("list", Data("[1]".utf8), "is neither"),
                ("other", Data("{\"a\": 1}".utf8), "no report"),
                ("cut-report", fullReport().encoded().dropLast(20), "cut"),
                ("cut-log", Data(log.dropLast(9)), "is cut off at byte \(log.count - 9)"),
                ("damaged-log", Data(damaged), "is damaged in the section at byte"),
                ("later", later.encoded(), "schema 7"),
                ("source", source.encoded(), "it is the source's"),
                ("precopy", precopy.encoded(), "it was precopy only"),
            ]
            for (name, bytes, says) in cases {
                let path = folder.appendingPathComponent(name).path
                try bytes.write(to: URL(fileURLWithPath: path))
                let text = Self.refusal([path]) ?? "no refusal"
                #expect(text.contains(path) && text.contains(says), "\(text)")
                #expect(!text.contains("\n"))
            }
            #expect(Self.refusal([folder.path])?.contains("it is a folder") == true)
            #expect(Self.refusal([folder.path + "/none"])?.contains("cannot be read") == true)
        }
    }

    @Test("a file is written whole or not at all")
    func whole() throws {
        struct Stop: Error {}
        try inFolder { folder in
            let path = folder.appendingPathComponent("a").path
            try Data("before".utf8).write(to: URL(fileURLWithPath: path))
            let file = try ReportFile(path: path, option: "--trace")
            #expect(throws: Refusal.self) {
                try file.write(what: "the trace") { sink in
                    try sink(Data("half".utf8))
                    throw Stop()
                }
            }
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "before")
            try file.write(what: "the trace") { sink in
                for piece in ["one", "two"] { try sink(Data(piece.utf8)) }
            }
            #expect(try String(contentsOfFile: path, encoding: .utf8) == "onetwo")
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["a"])
        }
    }

    @Test("what was recorded goes where it is asked for")
    func recording() throws {
        try inFolder { folder in
            let (trace, log) = (folder.path + "/trace.json", folder.path + "/faults")
            let options = try RecordingOptions.parse(["--trace", trace, "--fault-log", log])
            let files = try RecordingFiles(options, beside: .none, isChild: false)
            try files.write(recordedLog(seed: 6), Console(quiet: true))
            let object = try JSONSerialization.jsonObject(
                with: Data(contentsOf: URL(fileURLWithPath: trace)))
            let events = (object as? [String: Any])?["traceEvents"] as? [[String: Any]]
            #expect(events?.count { $0["name"] as? String == "wait" } == 300)
            let bytes = try Data(contentsOf: URL(fileURLWithPath: log))
            #expect(try FaultLogCodec.decode(Array(bytes)) == recordedLog(seed: 6))
            let both = try RecordingOptions.parse(["--trace", "-", "--fault-log", "-"])
            #expect(throws: Refusal.self) {
                try RecordingFiles(both, beside: .none, isChild: false)
            }
        }
    }

    @Test("a destination hands its log over by a file that goes with its folder")
    func handOver() throws {
        let leftovers = Leftovers()
        let handOver = try FaultLogHandOver(leftovers: leftovers, isAsked: true)
        let path = try #require(handOver.arguments.last)
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let both = recordedLog(seed: 7)
        var (here, there) = (both, both)
        here.source = nil
        there.destination = nil
        #expect(handOver.joined(with: there) == there, "nothing was handed over")
        let bytes = FaultLogCodec.encode(here)
        try Data(bytes.dropLast()).write(to: URL(fileURLWithPath: path))
        #expect(handOver.joined(with: there) == there, "it was cut")
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        #expect(handOver.joined(with: there) == both)
        #expect(handOver.joined(with: nil) == here)
        // What the destination was writing when it died has a longer name.
        try Data().write(to: URL(fileURLWithPath: path + ".1.part"))
        leftovers.remove()
        #expect(!FileManager.default.fileExists(atPath: folder))
    }

    private static func refusal(_ paths: [String]) -> String? {
        do {
            _ = try BlocktimeFiles.runs(paths)
            return nil
        } catch {
            return "\(error)"
        }
    }
}
