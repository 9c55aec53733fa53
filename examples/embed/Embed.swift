import Postcopy
import Synchronization

/// A machine of one thread that counts in its memory: page after page, round after round. Its whole
/// device state is how far it has counted.
final class CountingMachine: Guest {
    let machineType = "counting-machine-1"
    let memory: [GuestRAM]
    let faultOrigin = FaultOrigin.userOnly
    private let steps = Atomic<UInt64>(0)
    private let mayRun = Atomic(false)
    private let thread = Mutex<JoinableThread<Void>?>(nil)

    init(memoryBytes: UInt64) throws {
        let block = try BlockGeometry(
            name: "counter.ram", lengthBytes: memoryBytes, hostPage: HostMemory.pageSize)
        memory = [try GuestRAM(block, backing: .anonymous)]
    }

    var stepsDone: UInt64 { steps.load(ordering: .relaxed) }
    /// Its thread is made by `resume`, too late to be accounted for as a vCPU.
    var vcpuThreads: [Int32] { [] }

    func resume() {
        mayRun.store(true, ordering: .releasing)
        var counter = try? JoinableThread(name: "counter") { [self] in count() }
        thread.withLock { running in running = counter.take() }
    }

    func pause() {
        mayRun.store(false, ordering: .releasing)
        let running = thread.withLock { $0.take() }
        running?.join()
    }

    func saveDevices() -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: stepsDone >> (56 - 8 * $0)) }
    }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        guard sections.count == 8 else { throw GuestError("the counter is 8 bytes long") }
        steps.store(sections.reduce(0) { $0 << 8 | UInt64($1) }, ordering: .relaxed)
    }

    private func count() {
        let (ram, pages) = (memory[0], UInt64(memory[0].geometry.targetPageCount))
        while mayRun.load(ordering: .acquiring) {
            let (round, page) = stepsDone.quotientAndRemainder(dividingBy: pages)
            precondition(ram.loadWord(at: page << 12) == round, "page \(page) lost a count")
            ram.storeWord(round + 1, at: page << 12)
            steps.add(1, ordering: .relaxed)
        }
    }
}

/// Both ends in one process, for the sake of the example: `swift run embed`.
@main
enum Embed {
    static func main() throws {
        let here = try CountingMachine(memoryBytes: 64 << 20)
        let there = try CountingMachine(memoryBytes: 64 << 20)
        here.resume()
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let source = try MigrationSource(guest: here)
        try source.start(to: listener.address)
        source.startPostcopy()
        let received = try MigrationDestination(guest: there).run(on: listener).get()
        let sent = try source.wait().get()
        there.pause()
        print("source \(sent.status), destination \(received.status)")
        print(
            "counted \(here.stepsDone) steps here, \(there.stepsDone - here.stepsDone) more there")
        print(
            "\(received.progress.requests) page requests; downtime \(sent.downtimeNanoseconds ?? 0) ns"
        )
    }
}
