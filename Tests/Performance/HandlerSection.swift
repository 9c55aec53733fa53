import CShims
import FaultHandling
import Glibc
import LinuxKernel
import PageModel

/// A fault through `FaultHandler` next to one through a bare loop, both from the same file.
struct HandlerSection {
    let runs: Int
    private static let lengthBytes: UInt64 = 64 << 20
    private static let faultsMax = 20_000

    /// Prints each round.
    func rows() throws -> [Row] {
        let path = "/tmp/postcopy-bench-\(getpid())"
        try Self.writeFile(path)
        defer { _ = unsafe unlink(path) }
        var pairs: [(floor: LatencyFigures, ours: LatencyFigures)] = []
        for round in 0..<runs {
            let seed = UInt64(round + 1)
            let floor = LatencyFigures(try bareLoop(path, seed))
            let ours = LatencyFigures(try handler(path, seed))
            pairs.append((floor, ours))
            print("round \(round + 1): bare loop \(text(floor)); handler \(text(ours))")
        }
        return [
            Row("handler latency mean", unit: "us", pairs: pairs.map { ($0.mean, $1.mean) }),
            Row("handler latency p50", unit: "us", pairs: pairs.map { ($0.p50, $1.p50) }),
            Row("handler latency p99", unit: "us", pairs: pairs.map { ($0.p99, $1.p99) }),
        ]
    }

    private func text(_ figures: LatencyFigures) -> String {
        "mean \(one(figures.mean)) p50 \(one(figures.p50)) p99 \(one(figures.p99)) us"
    }

    private func handler(_ path: String, _ seed: UInt64) throws -> [UInt64] {
        let ram = try Self.memory()
        let handler = try FaultHandler(memory: [ram], pages: try FilePages(path, of: [ram]))
        try handler.start()
        let latency = try touch(ram, seed)
        handler.stop()
        return latency
    }

    private func bareLoop(_ path: String, _ seed: UInt64) throws -> [UInt64] {
        let ram = try Self.memory()
        let uffd = BareLoop.register(ram)
        let file = unsafe open(path, O_RDONLY)
        let end = try EventFlag()
        let thread = try JoinableThread(name: "bare-fault") {
            Self.answerFaults(uffd, of: ram, from: file, until: end)
        }
        let latency = try touch(ram, seed)
        end.raise()
        thread.join()
        close(file)
        close(uffd)
        return latency
    }

    private static func answerFaults(
        _ uffd: Int32, of ram: GuestRAM, from file: Int32, until end: EventFlag
    ) {
        var event = pc_uffd_event()
        let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { unsafe page.deallocate() }
        var waits = [pollfd(fd: uffd, events: Int16(POLLIN), revents: 0)]
        while true {
            // Ten times a second is often enough to learn that the run is over.
            guard unsafe pc_poll(&waits, 1, 100_000_000) > 0 else {
                if end.wait(timeoutNanoseconds: 0) { return }
                continue
            }
            guard unsafe pc_uffd_read(uffd, &event, 1) == 1 else { continue }
            let address = event.address & ~4095
            _ = unsafe pread(file, page, 4096, off_t(address - ram.address.rawValue))
            _ = unsafe pc_uffd_copy(uffd, address, page, 4096)
        }
    }

    private func touch(_ ram: GuestRAM, _ seed: UInt64) throws -> [UInt64] {
        let toucher = Toucher(ram: ram, seed: seed, faultsMax: Self.faultsMax)
        let result = try JoinableThread(name: "vcpu0") { toucher.run() }.join()
        precondition(result.wrongPages == 0, "a page came wrong")
        return result.latency
    }

    private static func memory() throws -> GuestRAM {
        let block = try BlockGeometry(
            name: "bench.ram", lengthBytes: lengthBytes, hostPage: HostMemory.pageSize)
        return try GuestRAM(block, backing: .anonymous)
    }

    private static func writeFile(_ path: String) throws {
        let ram = try memory()
        Toucher.fill(ram)
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        let whole = RAMOffset(rawValue: 0)..<RAMOffset(rawValue: lengthBytes)
        try Folder("/tmp").make(file: name).write(whole, of: ram)
    }
}
