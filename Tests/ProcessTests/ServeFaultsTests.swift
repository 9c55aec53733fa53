import Foundation
import Glibc
import TestSupport
import Testing

/// A process that hands its memory over as Firecracker does, served by the command.
@Suite(.serialized) struct ServeFaultsTests {
    private static let mebibyte: UInt64 = 1 << 20

    /// Two regions of the file, in the other order and with a gap.
    private static let regions = [
        "anonymous:\(4 * mebibyte):\(8 * mebibyte)", "anonymous:\(6 * mebibyte):0",
    ]
    private static let pages = 10 * 256

    @Test(
        "every page is right, and zeros once the balloon has it, whatever version sends the regions",
        arguments: ["none", "older", "both", "newer", "kibibytes"])
    func versions(pageField: String) throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve()
            let client = try serving.client(
                Self.regions, "--balloon", "150", "--page-field", pageField)
            let (left, served) = (client.end(within: 60), command.end(within: 20))
            #expect(left.status == 0, "\(left)")
            let verdict = try #require(ClientVerdict(left), "\(left)")
            #expect(verdict.wrong == 0 && verdict.zeros > 0 && verdict.own > 0, "\(left)")
            #expect(verdict.content + verdict.zeros + verdict.own == Self.pages, "\(left)")
            expectServed(served, ending: "gone")
            let figures = try #require(Self.client(served), "\(served)")
            #expect(figures["removed-bytes"] as? Int ?? 0 > 0, "\(served)")
            #expect((figures["regions"] as? [[String: Any]])?.count == 2, "\(served)")
            #expect(figures["pid"] as? Int32 == client.processID, "\(served)")
            #expect(place.leftovers(expecting: ["memory"]) == [])
        }
    }

    @Test("memory of a memfd and huge pages are served, and given up")
    func kinds() throws {
        try #require(HugePagePool.isOurs, "the test needs root for huge pages")
        try HugePagePool.raised(by: 4) {
            try inPlace { place in
                let serving = try ServingPlace(place)
                let command = try serving.serve("--workers", "3")
                let client = try serving.client(
                    [
                        "huge:\(8 * Self.mebibyte):0",
                        "shared:\(4 * Self.mebibyte):\(8 * Self.mebibyte)",
                        "anonymous:\(2 * Self.mebibyte):\(12 * Self.mebibyte)",
                    ], "--balloon", "40")
                let (left, served) = (client.end(within: 60), command.end(within: 20))
                #expect(left.status == 0, "\(left)")
                #expect(ClientVerdict(left)?.wrong == 0, "\(left)")
                expectServed(served, ending: "gone")
            }
        }
    }

    @Test("a client that has every page is let go, and goes on by itself")
    func fill() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve("--fill")
            let hold = Hold()
            let client = try serving.client(
                Self.regions, "--hold", "--balloon", "20", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            let served = command.end(within: 30)
            expectServed(served, ending: "has-everything")
            let figures = try #require(Self.client(served), "\(served)")
            #expect(figures["missing-pages"] as? Int == 0, "\(served)")
            #expect(figures["background-pages"] as? Int ?? 0 > 0, "\(served)")
            hold.end()
            let left = client.end(within: 60)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
        }
    }

    @Test("a client that is killed is a client that has ended")
    func clientKilled() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve()
            let hold = Hold()
            let client = try serving.client(Self.regions, "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            client.signal(SIGKILL)
            _ = client.end(within: 10)
            let served = command.end(within: 10)
            expectServed(served, ending: "gone")
            let missing = try #require(Self.client(served)?["missing-pages"] as? Int)
            #expect(missing > 0 && missing < Self.pages, "\(served)")
            #expect(served.errorLines.contains { $0.contains("has ended after") }, "\(served)")
            hold.end()
            #expect(place.leftovers(expecting: ["memory"]) == [])
        }
    }

    @Test("when it is interrupted the client is brought all that it lacks, and let go")
    func interrupted() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve("--clients", "0")
            let hold = Hold()
            let client = try serving.client(Self.regions, "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            command.signal(SIGINT)
            let served = command.end(within: 20)
            expectServed(served, ending: "has-everything")
            #expect(served.errorLines.contains { $0.contains("interrupt again") }, "\(served)")
            hold.end()
            let left = client.end(within: 30)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
            #expect(place.leftovers(expecting: ["memory"]) == [])
        }
    }

    @Test("when it is interrupted and pages cannot be read, it says so and ends")
    func interruptedUnreadable() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve()
            let hold = Hold()
            let client = try serving.client(Self.regions, "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            // All of the first region.
            try #require(unsafe truncate(serving.file, Int(8 * Self.mebibyte)) == 0)
            command.signal(SIGINT)
            let served = command.end(within: 30)
            #expect(served.status == 130, "\(served)")
            #expect(Self.client(served)?["ending"] as? String == "incomplete", "\(served)")
            #expect(served.errorLines.contains { $0.contains("could not be brought") }, "\(served)")
            client.signal(SIGKILL)
            _ = client.end(within: 10)
            hold.end()
        }
    }

    @Test("when it is interrupted before a client comes, it says so")
    func interruptedAlone() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve()
            command.signal(SIGTERM)
            let served = command.end(within: 10)
            #expect(served.status == 130, "\(served)")
            #expect(served.json["status"] as? String == "interrupted", "\(served)")
            #expect(place.leftovers(expecting: ["memory"]) == [])
        }
    }

    @Test("when it is killed, a client that keeps its userfaultfd waits for ever in a missing page")
    func handlerKilled() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve()
            let hold = Hold()
            let client = try serving.client(Self.regions, "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            command.signal(SIGKILL)
            _ = command.end(within: 10)
            hold.end()
            #expect(try Self.waitsInPage(client.processID))
            #expect(client.isOpen)
            client.signal(SIGKILL)
            _ = client.end(within: 10)
        }
    }

    @Test("when it is killed, a client without a userfaultfd of its own reads zeros")
    func handlerKilledAlone() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve()
            let hold = Hold()
            let client = try serving.client(
                Self.regions, "--hold", "--close-own", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            command.signal(SIGKILL)
            _ = command.end(within: 10)
            hold.end()
            let left = client.end(within: 30)
            #expect(left.status == 1, "\(left)")
            #expect(try #require(ClientVerdict(left)).wrong > 0, "\(left)")
        }
    }

    @Test("a page that cannot be read is an error for who touches it, and is told")
    func unreadablePage() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve()
            let hold = Hold()
            let client = try serving.client(Self.regions, "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            try #require(unsafe truncate(serving.file, 4096) == 0)
            hold.end()
            #expect(client.end(within: 30).status == -SIGBUS)
            let served = command.end(within: 10)
            #expect(served.status == 1, "\(served)")
            #expect(served.json["status"] as? String == "failed", "\(served)")
            #expect(served.errorLines.last?.contains("could not be served") == true, "\(served)")
            #expect(served.errorLines.last?.contains(serving.file) == true, "\(served)")
            let lost = Self.client(served)?["lost"] as? [[String: Any]]
            #expect(lost?.first?["outcome"] as? String == "poisoned", "\(served)")
        }
    }

    @Test("several clients are served at once from one file")
    func severalClients() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let command = try serving.serve("--clients", "3")
            let clients = try (0..<3).map { _ in
                try serving.client(Self.regions, "--balloon", "30")
            }
            for client in clients {
                let left = client.end(within: 90)
                #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
            }
            let served = command.end(within: 20)
            #expect(served.status == 0, "\(served)")
            #expect((served.json["clients"] as? [Any])?.count == 3, "\(served)")
        }
    }

    @Test("what one client needed first is brought first for the next")
    func trace() throws {
        try inPlace { place in
            let serving = try ServingPlace(place)
            let trace = place.path("trace")
            let first = try serving.serve("--record", trace)
            #expect(try serving.client(Self.regions).end(within: 60).status == 0)
            expectServed(first.end(within: 20), ending: "gone")
            let second = try serving.serve("--prefetch", trace)
            let hold = Hold()
            let client = try serving.client(Self.regions, "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 20))
            hold.end()
            let left = client.end(within: 60)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
            let served = second.end(within: 20)
            expectServed(served, ending: "gone")
            let ahead = Self.client(served)?["background-pages"] as? Int
            #expect(ahead ?? 0 > 0, "\(served)")
            let third = try serving.serve("--prefetch", trace)
            let other = try serving.client(["anonymous:1048576:0"], "--hold", input: Hold().input)
            // Nobody was served yet: the next client may have the memory.
            _ = try #require(third.line(containing: "other memory", within: 20))
            third.signal(SIGINT)
            let refused = third.end(within: 20)
            #expect(refused.status == 130, "\(refused)")
            #expect(refused.errorLines.last?.contains("other memory") == true, "\(refused)")
            other.signal(SIGKILL)
            _ = other.end(within: 10)
            #expect(place.leftovers(expecting: ["memory", "trace"]) == [])
        }
    }

    private func expectServed(_ served: RunningCommand.Ended, ending: String) {
        #expect(served.status == 0, "\(served)")
        #expect(served.json["status"] as? String == "served", "\(served)")
        #expect(Self.client(served)?["ending"] as? String == ending, "\(served)")
        #expect(Self.client(served)?["lost-pages"] as? Int == 0, "\(served)")
    }

    private static func client(_ served: RunningCommand.Ended) -> [String: Any]? {
        (served.json["clients"] as? [[String: Any]])?.first
    }

    /// Whether a thread of a process gets to wait in a page fault within ten seconds.
    private static func waitsInPage(_ process: Int32) throws -> Bool {
        let folder = "/proc/\(process)/task"
        let deadline = Date(timeIntervalSinceNow: 10)
        while Date() < deadline {
            let threads = try FileManager.default.contentsOfDirectory(atPath: folder)
            let places = threads.compactMap {
                try? String(contentsOfFile: "\(folder)/\($0)/wchan", encoding: .utf8)
            }
            if places.contains(where: { $0.contains("userfault") }) { return true }
            pause(milliseconds: 10)
        }
        return false
    }
}
