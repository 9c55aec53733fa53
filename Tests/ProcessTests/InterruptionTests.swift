import Foundation
import Glibc
import Testing

/// Ctrl-C counts whenever it comes, also while nobody looks.
@Suite(.serialized) struct InterruptionTests {
    @Test(
        "a run that is told to stop as it begins stops",
        arguments: ["destination is process", "seed"], [SIGINT, SIGTERM])
    func atOnce(line: String, signal: Int32) throws {
        try inPlace { place in
            let command = try RunningCommand(
                ["run", "--memory", "64M", "--warm-up", "60s", "--transport", "unix"], in: place)
            _ = try #require(command.line(containing: line, within: 10))
            command.signal(signal)
            let ended = command.end(within: 10)
            #expect(ended.status == 130, "\(ended)")
            #expect(try place.leftovers(within: 5) == [])
        }
    }
}
