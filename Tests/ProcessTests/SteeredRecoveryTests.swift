import Foundation
import Glibc
import Testing

/// People break a link, and bring it back or give it up, by commands alone.
@Suite(.serialized) struct SteeredRecoveryTests {
    /// Slow enough that there is time to type.
    private static let slow = [
        "run", "--memory", "128M", "--warm-up", "50ms", "--run-on", "50ms", "--no-precopy",
        "--max-postcopy-bandwidth", "20MB/s", "--json", "-",
    ]

    @Test("a link that was cut comes back by itself, twice, and the report names both cuts")
    func byItself() throws {
        try inPlace { place in
            let command = try RunningCommand(
                Self.slow.map { $0 == "20MB/s" ? "100MB/s" : $0 } + [
                    "--break-after", "20%", "--break-for", "100ms", "--break-times", "2",
                ], in: place)
            let ended = command.end(within: 60)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.number("verify", "mismatches") == 0)
            let cuts = try #require(ended.json["cuts"] as? [[String: Any]])
            #expect(cuts.count == 2)
            for cut in cuts {
                #expect(cut["source-paused-after-ns"] is Int, "\(cut)")
                #expect(cut["destination-paused-after-ns"] is Int, "\(cut)")
                #expect(cut["first-page-after-ns"] is Int, "\(cut)")
            }
            #expect(ended.errorLines.contains { $0.hasPrefix("destination link: back after") })
            #expect(place.leftovers() == [])
        }
    }

    @Test("by hand: it waits, says what to type, and that brings it back")
    func byHand() throws {
        try inPlace { place in
            let command = try RunningCommand(
                Self.slow + [
                    "--recover", "by-hand", "--break-after", "10%", "--break-for", "1ms",
                ], in: place)
            let line = try #require(command.line(containing: "waits for somebody", within: 20))
            #expect(line.contains("'postcopy recover --pid \(command.processID)'"), "\(line)")
            _ = try #require(command.line(containing: "destination link: broke", within: 20))
            let status = try ask(["status", "--json"], in: place)
            #expect(status.json["waits-for-somebody"] as? Bool == true, "\(status)")
            let again = try ask(["recover"], in: place)
            #expect(again.status == 0, "\(again)")
            _ = try #require(command.line(containing: "link: back after", within: 20))
            let ended = command.end(within: 60)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.number("verify", "mismatches") == 0)
        }
    }

    @Test("who is paused by hand can be given up, and says what is lost")
    func abandoned() throws {
        try inPlace { place in
            let command = try RunningCommand(Self.slow, in: place)
            _ = try #require(command.line(containing: "postcopy-active", within: 20))
            #expect(try ask(["pause"], in: place).status == 0)
            _ = try #require(command.line(containing: "destination link: broke", within: 20))
            let given = try ask(["abandon", "--side", "destination"], in: place)
            #expect(given.status == 0, "\(given)")
            let ended = command.end(within: 30)
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.json["status"] as? String == "postcopy-paused")
            #expect(ended.errorLines.last?.contains("'workload.ram' misses") == true, "\(ended)")
            #expect(ended.errorLines.last?.contains("gave the guest up") == true, "\(ended)")
            #expect(ended.number("vcpus-in-lost-memory") != nil)
            #expect(place.leftovers() == [])
        }
    }

    private func ask(
        _ arguments: [String], in place: TestPlace
    ) throws -> RunningCommand.Ended {
        try RunningCommand(arguments, in: place).end(within: 20)
    }
}
