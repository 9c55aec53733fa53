import Foundation
import Glibc

/// A network namespace with one link to the one that the tests run in; gone with its last owner.
final class TestNetwork: Sendable {
    private let name: String
    /// The other end of the link, in the namespace.
    static let innerAddress = "10.213.77.2"
    private static let outerAddress = "10.213.77.1"
    private static let tool = ["/usr/sbin/ip", "/sbin/ip", "/bin/ip"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }
    private static let outer = "pctest0"
    private static let inner = "pctest1"

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Whether this host lets tests have one.
    static let isPossible: Bool = {
        guard geteuid() == 0, tool != nil else { return false }
        return (try? TestNetwork()) != nil
    }()

    init() throws {
        name = "postcopy-test-\(getpid())"
        // What a test that was killed has left.
        try? Self.ip(["link", "del", Self.outer])
        try Self.ip(["netns", "add", name])
        do {
            try Self.ip(
                [
                    "link", "add", Self.outer, "type", "veth", "peer", "name", Self.inner, "netns",
                    name,
                ])
            try Self.ip(["addr", "add", Self.outerAddress + "/30", "dev", Self.outer])
            try Self.ip(["link", "set", Self.outer, "up"])
            try Self.ip(
                ["-n", name, "addr", "add", Self.innerAddress + "/30", "dev", Self.inner])
            try Self.ip(["-n", name, "link", "set", "lo", "up"])
            try Self.ip(["-n", name, "link", "set", Self.inner, "up"])
        } catch {
            remove()
            throw error
        }
    }

    deinit { remove() }

    /// What runs a command inside.
    var prefix: [String] { [Self.tool ?? "ip", "netns", "exec", name] }

    /// Takes the link down or up, inside.
    func setLink(isUp: Bool) throws {
        try Self.ip(["-n", name, "link", "set", Self.inner, isUp ? "up" : "down"])
    }

    private func remove() {
        // The link first: a process that still runs keeps the namespace.
        try? Self.ip(["link", "del", Self.outer])
        try? Self.ip(["netns", "del", name])
    }

    private static func ip(_ arguments: [String]) throws {
        let process = Process()
        let errors = Pipe()
        process.executableURL = URL(fileURLWithPath: tool ?? "ip")
        process.arguments = arguments
        process.standardError = errors
        try process.run()
        let said = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let text = String(decoding: said, as: UTF8.self)
            throw Failure(description: "ip \(arguments.joined(separator: " ")): \(text)")
        }
    }
}
