import CShims
import FaultHandling
import Foundation
import Glibc
import LinuxKernel
import PageModel
import Synchronization
import TestSupport
import Testing

/// `FaultClient` in a process of its own, which is killed when the test lets it go.
final class ClientProcess: Sendable {
    /// As it described them.
    let regions: [ForeignRegionDescription]
    private let userfaultfd: Handover<FileDescriptor>
    private let process: OwnedProcess
    private let socket: StreamSocket
    private let pending = Mutex(Pending())

    fileprivate struct Pending {
        var next = 0
        var received: [UInt8] = []
        var answers: [Int: Int64] = [:]
    }

    private final class OwnedProcess: @unchecked Sendable {
        // SAFETY: made before the object is shared; afterwards only asked and ended.
        let process = Process()

        deinit { end() }

        func end() {
            if process.isRunning { _ = Glibc.kill(process.processIdentifier, SIGKILL) }
            process.waitUntilExit()
        }
    }

    private static let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appendingPathComponent("FaultClient")

    init(
        _ plans: [String], features: [pc_uffd_feature] = [PC_UFFD_FEATURE_THREAD_ID]
    ) throws {
        let path = Host.temporaryPath("client")
        let listener = try Listener(at: .unix(path: path), isPrivate: true)
        let process = OwnedProcess()
        process.process.executableURL = Self.program
        let bits = features.reduce(UInt64(0)) { $0 | UInt64($1.rawValue) }
        process.process.arguments = [path, "\(bits)"] + plans
        try process.process.run()
        var poller = Poller(capacity: 1)
        poller.watch(listener)
        try #require(poller.wait(timeoutNanoseconds: 20_000_000_000) > 0, "the client came")
        let socket = try listener.accept()
        socket.limitReceives(nanoseconds: 20_000_000_000)
        var bytes: [UInt8] = []
        var parcel = DescriptorParcel()
        while bytes.last != UInt8(ascii: "\n") {
            let count = try socket.receive(upTo: 65_536, into: &bytes, &parcel)
            try #require((count ?? 0) > 0, "the client described its memory")
        }
        let descriptor = parcel.takeFirst()
        guard let descriptor else { throw Incomplete() }
        userfaultfd = Handover(descriptor)
        var offset: UInt64 = 0
        let line = String(decoding: bytes.dropLast(), as: UTF8.self)
        regions = line.split(separator: ";").map { text in
            let numbers = text.split(separator: ",").compactMap { UInt64($0) }
            defer { offset += numbers[1] }
            return ForeignRegionDescription(
                address: numbers[0], lengthBytes: numbers[1], contentOffset: offset,
                pageBytes: numbers[2])
        }
        self.process = process
        self.socket = socket
    }

    private struct Incomplete: Error {}

    /// Its memory as it handed it over; once.
    func memory() throws -> ForeignMemory {
        try ForeignMemory(userfaultfd: userfaultfd.take(), regions: regions)
    }

    var processID: Int32 { process.process.processIdentifier }

    func end() { process.end() }

    /// The signal that ended it; `nil` when it does not end in time, or by itself.
    func endedBySignal() -> Int32? {
        guard atLast({ !process.process.isRunning }),
            process.process.terminationReason == .uncaughtSignal
        else { return nil }
        return process.process.terminationStatus
    }

    /// Sends a command; `answer(to:)` has its result.
    func send(_ command: String, _ numbers: UInt64...) throws -> Int {
        let id = pending.withLock { pending in
            pending.next += 1
            return pending.next
        }
        let words = ["\(id)", command] + numbers.map(String.init)
        try socket.send(Array((words.joined(separator: " ") + "\n").utf8).span)
        return id
    }

    /// Waits for the result of a command; `nil` when it does not come in time.
    func answer(to id: Int) -> Int64? {
        pending.withLock { pending in
            while true {
                if let answer = pending.answers.removeValue(forKey: id) { return answer }
                var parcel = DescriptorParcel()
                let count = try? socket.receive(
                    upTo: 65_536, into: &pending.received, &parcel)
                guard let count, count > 0 else { return nil }
                pending.takeLines()
            }
        }
    }

    func call(_ command: String, _ number: UInt64, _ other: UInt64 = 0) throws -> Int64? {
        answer(to: try send(command, number, other))
    }

    /// The address of a byte of a region.
    func address(_ region: Int, _ offset: UInt64) -> UInt64 { regions[region].address + offset }
}

extension ClientProcess.Pending {
    fileprivate mutating func takeLines() {
        while let end = received.firstIndex(of: UInt8(ascii: "\n")) {
            let words = String(decoding: received[..<end], as: UTF8.self).split(separator: " ")
            received.removeFirst(end + 1)
            if words.count == 2, let id = Int(words[0]) { answers[id] = Int64(words[1]) }
        }
    }
}
