import CShims
import Foundation
import Glibc
import LinuxKernel
import TestSupport
import Testing

/// What is no hand-off: one clear line, a status that is not 0, and nothing left behind.
@Suite(.serialized) struct BadHandOffTests {
    enum Descriptor: Sendable {
        case userfaultfd
        /// Before its handshake.
        case raw
        case eventFlag
    }

    struct Case: CustomTestStringConvertible, Sendable {
        let message: String
        let descriptors: [Descriptor]
        let says: [String]
        var testDescription: String { "\(says)" }

        init(_ message: String, _ descriptors: [Descriptor] = [.userfaultfd], _ says: String...) {
            (self.message, self.descriptors, self.says) = (message, descriptors, says)
        }
    }

    private static func region(
        _ address: String = "4096", _ size: String = "4096", _ offset: String = "0",
        page: String = "\"page_size\":4096"
    ) -> String {
        "{\"base_host_virt_addr\":\(address),\"size\":\(size),\"offset\":\(offset),\(page)}"
    }

    private static let good = "[\(region())]"

    @Test(
        "a hand-off that cannot be is refused, and says where",
        arguments: [
            Case("GET / HTTP/1.1\r\n\r\n", [], "no JSON", "byte 0"),
            Case("{}", [.userfaultfd], "no array"),
            Case("[]", [.userfaultfd], "no region"),
            Case("[1]", [.userfaultfd], "region 0", "no object"),
            Case(
                "[\(region()),{}]", [.userfaultfd], "region 1", "'base_host_virt_addr' is missing"),
            Case(
                "[\(region("-4096"))]", [.userfaultfd], "'base_host_virt_addr'", "no whole number"),
            Case("[\(region("4096", "\"4096\""))]", [.userfaultfd], "'size'", "no whole number"),
            Case(
                "[\(region("18446744073709551616"))]", [.userfaultfd], "'base_host_virt_addr'",
                "64 bits"),
            Case("[\(region("4096", "0"))]", [.userfaultfd], "region 0", "0 bytes"),
            Case("[\(region("4097"))]", [.userfaultfd], "region 0", "whole pages"),
            Case("[\(region("4096", "4096", "1"))]", [.userfaultfd], "region 0", "'offset' 1"),
            Case(
                "[\(region("18446744073709547520", "8192"))]", [.userfaultfd], "region 0", "beyond"),
            Case(
                "[\(region("4096", "18446744073709547520"))]", [.userfaultfd], "region 0", "beyond"),
            Case(
                "[\(region("4096", "4096", "18446744073709547520"))]", [.userfaultfd], "region 0",
                "beyond"),
            Case(
                "[\(region("4096", "8192")),\(region("8192"))]", [.userfaultfd],
                "regions 0 and 1 overlap"),
            Case(
                "[\(region("4096", "8192")),\(region("16384", "4096", "4096"))]", [.userfaultfd],
                "regions 0 and 1", "same part of the content"),
            Case("[\(region("72057594037927936"))]", [.userfaultfd], "region 0", "beyond"),
            Case("[\(region(page: "\"page_size\":5000"))]", [.userfaultfd], "region 0", "5000"),
            Case("[\(region(page: "\"page_size\":0"))]", [.userfaultfd], "region 0", "0 bytes"),
            Case(
                "[\(region(page: "\"page_size\":4096,\"page_size_kib\":2097152"))]", [.userfaultfd],
                "4096", "2097152"),
            Case(
                "[\(region("4096", "8392704"))]", [.userfaultfd], "region 0", "8392704", "8388608"),
            Case(String(repeating: "[", count: 5000), [.userfaultfd], "ended after 5000 bytes"),
            Case("[\(String(repeating: "[", count: 40))1]", [.userfaultfd], "nested too deep"),
            Case("[\(region(page: "\"size\":4096"))]", [.userfaultfd], "'size' stands twice"),
            Case(
                "[" + String(repeating: " ", count: 70_000) + "]", [.userfaultfd],
                "longer than 65536 bytes"),
            Case(good + "x", [.userfaultfd], "ended after"),
            Case("[\(region())", [.userfaultfd], "ended after"),
            Case(good, [], "no descriptor"),
            Case(good, [.userfaultfd, .userfaultfd], "2 descriptors"),
            Case(good, [.eventFlag], "no userfaultfd"),
            Case(good, [.raw], "handshake"),
        ])
    func refused(_ bad: Case) throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve()
            let socket = try StreamSocket.connect(to: .unix(path: serving.socket))
            var parcel = DescriptorParcel()
            for descriptor in bad.descriptors { try Self.add(descriptor, to: &parcel) }
            // It may have seen enough before all was sent.
            try? socket.send(Array(bad.message.utf8).span, parcel)
            socket.shutDownSending()
            let ended = try endRefused(command)
            expectOneError(ended, status: 130, saying: bad.says)
            let client = (ended.json["clients"] as? [[String: Any]])?.first
            #expect(client?["ending"] as? String == "refused", "\(ended)")
            #expect(place.leftovers(expecting: ["memory"]) == [])
        }
    }

    @Test("the same content named a thousand times is refused")
    func repeatedContent() throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve()
            let socket = try StreamSocket.connect(to: .unix(path: serving.socket))
            var parcel = DescriptorParcel()
            try Self.add(.userfaultfd, to: &parcel)
            let entries = (0..<600).map { Self.region("\((1 + $0) << 23)", "8388608") }
            let message = "[\(entries.joined(separator: ","))]"
            // Refused for what it says, and not for its length.
            #expect(message.utf8.count < 65_536)
            try? socket.send(Array(message.utf8).span, parcel)
            expectOneError(
                try endRefused(command), status: 130, saying: ["same part of the content"])
        }
    }

    @Test("pages that are smaller than was said end that client's service", arguments: [0, 5])
    func otherPages(present: Int) throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve()
            let client = try serving.client(
                ["anonymous:4194304:0"], "--say-pages", "2097152", "--present", "\(present)")
            let ended = command.end(within: 20)
            expectOneError(ended, saying: ["region 0", "pages of 2097152 bytes"])
            client.signal(SIGKILL)
            _ = client.end(within: 10)
            #expect(place.leftovers(expecting: ["memory"]) == [])
        }
    }

    @Test("a client that makes its userfaultfd wait holds nobody up")
    func blocking() throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve("--clients", "0")
            let hold = Hold()
            let liar = try serving.client(
                ["anonymous:4194304:0"], "--blocking", "--hold", input: hold.input)
            _ = try #require(liar.line(containing: "holding", within: 20))
            let other = try serving.client(["anonymous:1048576:0"]).end(within: 30)
            #expect(other.status == 0 && ClientVerdict(other)?.wrong == 0, "\(other)")
            command.signal(SIGTERM)
            let ended = command.end(within: 20)
            #expect(ended.status == 0, "\(ended)")
            hold.end()
            let left = liar.end(within: 30)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
        }
    }

    @Test("one that says nothing is given up")
    func silent() throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve()
            let socket = try StreamSocket.connect(to: .unix(path: serving.socket))
            let part = Array("[{".utf8)
            try socket.send(part.span)
            let ended = try endRefused(command)
            expectOneError(ended, status: 130, saying: ["10000 ms", "2 bytes"])
            socket.shutDown()
        }
    }

    @Test("a stranger takes nobody's place, and is in the report", arguments: [1, 2])
    func strangerBeside(clients: Int) throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve("--clients", "\(clients)")
            let stranger = try StreamSocket.connect(to: .unix(path: serving.socket))
            try stranger.send(Array("hello".utf8).span)
            _ = try #require(command.line(containing: "refused", within: 10))
            for _ in 0..<clients {
                let left = try serving.client(["anonymous:1048576:0"]).end(within: 30)
                #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
            }
            let ended = command.end(within: 10)
            #expect(ended.status == 0, "\(ended)")
            let figures = ended.json["clients"] as? [[String: Any]]
            let endings = figures?.map { $0["ending"] as? String }
            #expect(endings == ["refused"] + Array(repeating: "gone", count: clients), "\(ended)")
            _ = consume stranger
        }
    }

    @Test("strangers who keep the place have it no longer than a hand-off may take")
    func strangerWaits() throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve()
            let stranger = try StreamSocket.connect(to: .unix(path: serving.socket))
            try stranger.send([UInt8(ascii: "[")].span)
            // In the socket's queue meanwhile.
            let left = try serving.client(["anonymous:1048576:0"]).end(within: 40)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
            #expect(command.end(within: 10).status == 0)
            _ = consume stranger
        }
    }

    @Test("a message that comes byte by byte is whole with its last one")
    func pieces() throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let command = try serving.serve()
            let socket = try StreamSocket.connect(to: .unix(path: serving.socket))
            var parcel = DescriptorParcel()
            try Self.add(.eventFlag, to: &parcel)
            let bytes = Array(" [ \(Self.region()) ] ".utf8)
            try socket.send(Array(bytes[..<1]).span, parcel)
            for byte in bytes[1...] { try? socket.send([byte].span) }
            expectOneError(try endRefused(command), status: 130, saying: ["no userfaultfd"])
        }
    }

    @Test("a socket that somebody left is replaced, and one in use is refused")
    func sockets() throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: 8 << 20)
            let killed = try serving.serve()
            killed.signal(SIGKILL)
            _ = killed.end(within: 10)
            #expect(FileManager.default.fileExists(atPath: serving.socket))
            let command = try serving.serve()
            let second = try RunningCommand(
                ["serve-faults", serving.socket, "--memory-file", serving.file], in: place
            ).end(within: 10)
            #expect(second.status == 1 && second.errorLines.count == 1, "\(second)")
            #expect(second.errorLines.last?.contains("in use") == true, "\(second)")
            let client = try serving.client(["anonymous:1048576:0"])
            #expect(client.end(within: 30).status == 0)
            #expect(command.end(within: 10).status == 0)
            #expect(place.leftovers(expecting: ["memory"]) == [])
        }
    }

    /// Ends one that waits for a client since it refused what came.
    private func endRefused(_ command: RunningCommand) throws -> RunningCommand.Ended {
        // A hand-off that does not go on is given up after ten seconds.
        _ = try #require(command.line(containing: "hand-off was refused", within: 20))
        command.signal(SIGTERM)
        return command.end(within: 10)
    }

    private func expectOneError(
        _ ended: RunningCommand.Ended, status: Int32 = 1, saying parts: [String]
    ) {
        #expect(ended.status == status, "\(ended)")
        let errors = ended.errorLines.filter { $0.hasPrefix("postcopy: ") }
        #expect(errors.count == 1, "\(ended)")
        for part in parts { #expect(errors.last?.contains(part) == true, "\(part) in \(ended)") }
    }

    private static func add(
        _ descriptor: Descriptor, to parcel: inout DescriptorParcel
    ) throws {
        if descriptor == .eventFlag { return try parcel.add(try EventFlag()) }
        let raw = pc_uffd_open_device()
        try #require(raw >= 0, "userfaultfd needs root, or permission on its device")
        if descriptor == .userfaultfd {
            var supported: UInt64 = 0
            #expect(unsafe pc_uffd_handshake(raw, 0, &supported) == 0)
        }
        try parcel.add(FileDescriptor(owning: raw))
    }
}
