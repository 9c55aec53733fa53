import CShims
import FaultHandling
import Foundation
import Glibc
import LinuxKernel
import PageModel

/// A fault of this process's memory that another process serves from a file in the page cache: by the
/// fault handler, next to a bare loop. The two take turns at going first.
struct ServeSection {
    let settings: Settings

    static let title =
        "fault latency as the faulting thread of another process sees it, from a file, random order; "
        + "floor: a bare loop of poll, read, pread and UFFDIO_COPY"

    /// Large enough that 20,000 faults are spread, and small enough for the page cache.
    private static let memoryBytes: UInt64 = 256 << 20
    private static let faultsMax = 20_000

    /// Prints each round.
    func rows() throws -> [Row] {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-bench-\(getpid())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("memory").path
        try Self.write(file)
        var pairs: [(floor: LatencyFigures, ours: LatencyFigures)] = []
        for round in 0..<settings.runs {
            var figures: [HandlerProcess.Kind: LatencyFigures] = [:]
            let kinds: [HandlerProcess.Kind] = round % 2 == 0 ? [.bare, .ours] : [.ours, .bare]
            for kind in kinds {
                let socket = folder.appendingPathComponent("\(kind.rawValue)-\(round)").path
                figures[kind] = LatencyFigures(
                    try Self.measure(kind, socket, file, seed: UInt64(round + 1)))
            }
            guard let bare = figures[.bare], let ours = figures[.ours] else { continue }
            pairs.append((bare, ours))
            print("round \(round + 1): bare handler \(text(bare)); fault handler \(text(ours))")
        }
        return [
            Row(
                "served fault mean", unit: "us", pairs: pairs.map { ($0.floor.mean, $0.ours.mean) }),
            Row("served fault p50", unit: "us", pairs: pairs.map { ($0.floor.p50, $0.ours.p50) }),
            Row("served fault p99", unit: "us", pairs: pairs.map { ($0.floor.p99, $0.ours.p99) }),
        ]
    }

    private func text(_ figures: LatencyFigures) -> String {
        "mean \(one(figures.mean)) p50 \(one(figures.p50)) p99 \(one(figures.p99)) us"
    }

    private static func write(_ file: String) throws {
        let block = try BlockGeometry(
            name: "bench.ram", lengthBytes: memoryBytes, hostPage: HostMemory.pageSize)
        let ram = try GuestRAM(block, backing: .anonymous)
        Toucher.fill(ram)
        try Data(count: 0).write(to: URL(fileURLWithPath: file))
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
        for start in stride(from: 0, to: memoryBytes, by: 1 << 20) {
            ram.withPage(at: start, lengthBytes: 1 << 20) { words in
                let bytes = unsafe words.withUnsafeBytes { unsafe Data($0) }
                try? handle.write(contentsOf: bytes)
            }
        }
        try handle.close()
    }

    private static func measure(
        _ kind: HandlerProcess.Kind, _ socket: String, _ file: String, seed: UInt64
    ) throws -> [UInt64] {
        let handler = try HandlerProcess(kind, at: socket, from: file)
        defer { handler.end() }
        let guest = try BenchGuest(memoryBytes: memoryBytes)
        let uffd = BareLoop.register(guest.ram)
        defer { close(uffd) }
        let connection = try StreamSocket.connect(to: .unix(path: socket))
        var parcel = DescriptorParcel()
        try parcel.add(FileDescriptor(owning: dup(uffd)))
        let message = """
            [{"base_host_virt_addr":\(guest.ram.address.rawValue),"size":\(memoryBytes),"offset":0,\
            "page_size":4096}]
            """
        try connection.send(Array(message.utf8).span, parcel)
        let toucher = Toucher(ram: guest.ram, seed: seed, faultsMax: faultsMax)
        let result = try JoinableThread(name: "vcpu0") { toucher.run() }.join()
        precondition(result.wrongPages == 0, "the \(kind.rawValue) handler placed wrong pages")
        return result.latency
    }
}

/// This program as the process that serves another's faults.
final class HandlerProcess {
    enum Kind: String {
        case bare
        case ours
    }

    private let process = Process()

    /// - Returns: once it listens.
    init(_ kind: Kind, at socket: String, from file: String) throws {
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = ["handler", kind.rawValue, socket, file]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        precondition(output.fileHandleForReading.availableData.count > 0, "a handler that listens")
    }

    func end() {
        process.terminate()
        process.waitUntilExit()
    }

    static func sayReady() { FileHandle.standardOutput.write(Data("ready\n".utf8)) }

    /// What the child does, by the arguments of `init`.
    static func beHandler(_ arguments: [String]) throws {
        let (kind, path, file) = (arguments[1], arguments[2], arguments[3])
        if kind == Kind.bare.rawValue { return try BareHandler.serve(at: path, from: file) }
        let listener = try Listener(at: .unix(path: path))
        sayReady()
        var poller = Poller(capacity: 1)
        poller.watch(listener)
        _ = poller.wait(timeoutNanoseconds: .max)
        let socket = try listener.accept()
        let memory = try FirecrackerHandOff.receive(
            from: socket, contentBytes: .max, unless: EventFlag())
        guard let memory else { return }
        let pages = try FilePages(file, of: memory.regions)
        let handler = try FaultHandler(serving: memory, pages: pages)
        try handler.start()
        _ = handler.waitUntilEnded()
    }
}
