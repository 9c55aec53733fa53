import Foundation
import LinuxKernel
import Testing

/// The example as its users run it.
@Suite(
    "examples/kvm as two processes",
    .enabled(if: KVMExample.isPossible, "needs access to /dev/kvm"))
struct KVMExampleTests {
    @Test("a guest moves from one to the other over a link that is cut", arguments: [1, 4])
    func sendAndReceive(vcpus: Int) throws {
        let destination = try KVMExample(["receive", "tcp:127.0.0.1:0", "--memory", "16"])
        let first = try #require(destination.firstLine)
        let uri = try #require(first.split(separator: " ").last.map(String.init))
        let source = try KVMExample([
            "send", uri, "--memory", "16", "--vcpus", "\(vcpus)", "--breaks", "1",
        ])
        let (sent, received) = (source.ended, destination.ended)
        #expect(sent.status == 0 && received.status == 0, "\(sent)\n\(received)")
        #expect(sent.output.contains("completed") && sent.output.contains(" 1 breaks"), "\(sent)")
        #expect(received.output.contains("4096 pages compared, 0 wrong"))
        for vcpu in 0..<vcpus { #expect(received.output.contains("vcpu\(vcpu) says after ")) }
    }

    @Test("memory of another size is refused, and the guest stays")
    func otherMemory() throws {
        let destination = try KVMExample(["receive", "tcp:127.0.0.1:0", "--memory", "8"])
        let first = try #require(destination.firstLine)
        let uri = try #require(first.split(separator: " ").last.map(String.init))
        let source = try KVMExample(["send", uri, "--memory", "16"])
        let (sent, received) = (source.ended, destination.ended)
        #expect(sent.status == 1 && received.status == 1, "\(sent)\n\(received)")
        #expect(sent.output.contains("the guest did not arrive"))
    }

    @Test(
        "what cannot be asked for is answered with one line",
        arguments: [
            [], ["fly"], ["run", "--vcpus", "5"], ["run", "--memory"], ["run", "--memory", "1"],
            ["send"], ["send", "nowhere"], ["run", "tcp:127.0.0.1:1"],
            ["send", "tcp:127.0.0.1:1", "--memory", "4"],
        ])
    func refusals(arguments: [String]) throws {
        let ended = try KVMExample(arguments).ended
        #expect(ended.status == 1)
        #expect(ended.output.hasPrefix("kvm: ") || ended.output.contains("\nkvm: "), "\(ended)")
    }
}

/// One process of the example.
private final class KVMExample {
    static let isPossible = (try? KVMMachine.open()) != nil

    private let process = Process()
    private let output = Pipe()
    private var heard = Data()
    /// Ends it when it hangs.
    private let deadline: DispatchWorkItem

    /// Longer than any of these takes on a host that does much else.
    private static let secondsMax = 60.0

    init(_ arguments: [String]) throws {
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appendingPathComponent("kvm")
        process.arguments = arguments
        process.standardOutput = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let process = process
        deadline = DispatchWorkItem { process.terminate() }
        DispatchQueue.global().asyncAfter(
            deadline: .now() + Self.secondsMax, execute: deadline)
    }

    /// What it says first; `nil` when it ends before that.
    var firstLine: String? {
        while true {
            if let end = heard.firstIndex(of: UInt8(ascii: "\n")) {
                return String(decoding: heard[..<end], as: UTF8.self)
            }
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { return nil }
            heard += more
        }
    }

    var ended: (status: Int32, output: String) {
        heard += (try? output.fileHandleForReading.readToEnd()) ?? Data()
        process.waitUntilExit()
        deadline.cancel()
        return (process.terminationStatus, String(decoding: heard, as: UTF8.self))
    }
}
