import Foundation
import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime

/// One run of one contender, with its source in a process of its own.
struct Measurement {
    let memoryBytes: UInt64
    let faultsMax: Int
    let seed: UInt64
    /// The source's, of the runtime's run.
    var options = MigrationOptions()

    struct Outcome {
        var latency: [UInt64]
        /// Bytes of guest memory a second from the guest's start until the last page was there.
        var fillBytesPerSecond: Double?
    }

    func bareLoop() throws -> Outcome {
        let guest = try BenchGuest(memoryBytes: memoryBytes)
        let (listener, port) = BareLoop.listen()
        let source = try startSource("bare", String(port))
        let socket = BareLoop.accept(listener)
        let uffd = BareLoop.register(guest.ram)
        let end = try EventFlag()
        let ram = guest.ram
        let handler = try JoinableThread(name: "bare-fault") {
            BareLoop.answerFaults(uffd, of: ram, over: socket, until: end)
        }
        let toucher = try JoinableThread(name: "bare-vcpu") { [self] in touch(ram) }
        let result = toucher.join()
        end.raise()
        handler.join()
        close(socket)
        close(uffd)
        source.waitUntilExit()
        precondition(result.wrongPages == 0, "the bare loop delivered wrong pages")
        return Outcome(latency: result.latency)
    }

    func runtime() throws -> Outcome {
        let guest = try BenchGuest(memoryBytes: memoryBytes)
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let source = try startSource("runtime", "\(listener.address)")
        let session = try DestinationSession(guest: guest, options: MigrationOptions())
        let (ram, started) = (guest.ram, guest.started)
        let toucher = try JoinableThread(name: "vcpu0") { [self] in
            started.wait()
            return touch(ram)
        }
        let report = session.run(on: listener)
        let result = toucher.join()
        source.waitUntilExit()
        precondition(report.status == .completed, report.problem ?? "the migration failed")
        precondition(result.wrongPages == 0, "the runtime delivered wrong pages")
        var outcome = Outcome(latency: result.latency)
        if let running = report.guestRunningAtNanoseconds {
            let seconds = Double(report.endedAtNanoseconds - running) / 1e9
            outcome.fillBytesPerSecond = Double(memoryBytes) / seconds
        }
        return outcome
    }

    private func touch(_ ram: GuestRAM) -> Toucher.Result {
        Toucher(ram: ram, seed: seed, faultsMax: faultsMax).run()
    }

    func startSource(_ kind: String, _ place: String) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = [
            "source", kind, place, String(memoryBytes), String(options.maxPostcopyBandwidth ?? 0),
            String(options.preempt),
        ]
        try process.run()
        return process
    }

    /// What the child does, by the arguments of `startSource`: it has the memory, and serves it.
    static func beSource(_ arguments: [String]) throws {
        let (kind, place) = (arguments[1], arguments[2])
        let guest = try BenchGuest(memoryBytes: UInt64(arguments[3])!)
        Toucher.fill(guest.ram)
        if kind == "bare" {
            return BareLoop.serve(port: UInt16(place)!, guest.ram)
        }
        var options = MigrationOptions()
        options.maxPostcopyBandwidth = UInt64(arguments[4]).flatMap { $0 == 0 ? nil : $0 }
        options.preempt = arguments[5] == "true"
        let session = try SourceSession(guest: guest, options: options)
        session.startPostcopy()
        let report = session.run(to: try ChannelAddress(parsing: place))
        // A sink hangs up when it has seen enough.
        guard kind != "sink" else { return }
        precondition(report.status == .completed, report.problem ?? "the migration failed")
    }
}
