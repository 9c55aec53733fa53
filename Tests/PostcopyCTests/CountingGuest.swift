import CPostcopy
import Glibc
import LinuxKernel
import PostcopyC
import Synchronization

/// A guest of one thread as C describes it: it counts the pages of its one block up, round after
/// round. What it says to the library goes through the functions of C alone.
@safe
final class CountingGuest: @unchecked Sendable {
    // SAFETY: `ram` and `words` are constant after `init`; the rest is atomic or locked.
    static let pages = 512
    static let bytes = UInt64(pages) << 12

    let ram: OpaquePointer
    private let words: UnsafeMutablePointer<UInt64>
    private let steps = Atomic<UInt64>(0)
    private let mayRun = Atomic(false)
    private let thread = Mutex<JoinableThread<Void>?>(nil)
    private let behaviour = Mutex(Behaviour())

    /// What its callbacks do other than they should, and what became of them.
    struct Behaviour: Sendable {
        /// Callbacks that answer an error, with the reason that they write.
        var failing: [String: String] = [:]
        /// Done inside of callbacks.
        var inside: [String: @Sendable () -> Void] = [:]
        var calls: [String] = []
        /// The handle that the last save wrote to.
        var sink: UInt = 0
        /// Names of blocks of which pages were lost, and how many pages.
        var lost: [String: UInt64] = [:]
        /// Bytes of device state, if not the counter's 8.
        var savedBytes: Int?
    }

    init(name: String = "c.ram") throws(TestFailure) {
        var ram: OpaquePointer?
        let code = unsafe name.withCString { name in
            var options = unsafe postcopy_ram_options()
            unsafe options.size = MemoryLayout<postcopy_ram_options>.size
            unsafe options.name = name
            unsafe options.length = Self.bytes
            return unsafe postcopy_ram_create(&options, &ram, nil)
        }
        guard let made = unsafe ram, let start = unsafe postcopy_ram_address(made) else {
            throw TestFailure("no memory: code \(code)")
        }
        unsafe self.ram = made
        unsafe words = start.assumingMemoryBound(to: UInt64.self)
    }

    func change(_ body: (inout Behaviour) -> Void) { behaviour.withLock { body(&$0) } }

    var calls: [String] { behaviour.withLock { $0.calls } }

    /// Pages that will never come, by block.
    var lostPages: [String: UInt64] { behaviour.withLock { $0.lost } }

    /// The source that is told of each write, if one is.
    let reportsTo = Atomic<UInt>(0)

    var lastSink: UInt { behaviour.withLock { $0.sink } }

    var stepsDone: UInt64 { steps.load(ordering: .acquiring) }

    /// Runs it until `stop`; one that runs goes on.
    func go() {
        mayRun.store(true, ordering: .releasing)
        thread.withLock { running in
            if running == nil {
                running = try? JoinableThread(name: "c-guest") { [self] in count() }
            }
        }
    }

    func stop() {
        mayRun.store(false, ordering: .releasing)
        var running = thread.withLock { $0.take() }
        running.take()?.join()
    }

    /// Pages that do not hold what the number of steps says.
    var wrongPages: Int {
        let (steps, pages) = (stepsDone, UInt64(Self.pages))
        return (0..<Self.pages).count { page in
            let rounds = steps / pages + (UInt64(page) < steps % pages ? 1 : 0)
            return unsafe words[page << 9] != rounds
        }
    }

    private func count() {
        while mayRun.load(ordering: .acquiring) {
            let page = Int(stepsDone % UInt64(Self.pages))
            unsafe words[page << 9] += 1
            let source = unsafe OpaquePointer(bitPattern: reportsTo.load(ordering: .acquiring))
            if let source = unsafe source {
                _ = unsafe postcopy_source_report_write(source, 0, UInt64(page), 1, nil)
            }
            steps.add(1, ordering: .releasing)
        }
    }

    /// Calls `body` with the guest as C describes it.
    func describe<Result>(_ body: (inout postcopy_guest) -> Result) -> Result {
        var guest = unsafe postcopy_guest()
        unsafe guest.size = MemoryLayout<postcopy_guest>.size
        unsafe guest.context = Unmanaged.passUnretained(self).toOpaque()
        unsafe guest.fault_origin = UInt32(POSTCOPY_FAULTS_USER_ONLY)
        unsafe guest.ram_count = 1
        unsafe guest.pause = { context, why in
            unsafe CountingGuest.of(context).answer("pause", why) { $0.stop() }
        }
        unsafe guest.resume = { context, why in
            unsafe CountingGuest.of(context).answer("resume", why) { $0.go() }
        }
        unsafe guest.save = { context, sink, why in
            unsafe CountingGuest.of(context).answer("save", why) { unsafe $0.save(to: sink) }
        }
        unsafe guest.load = { context, bytes, length, why in
            unsafe CountingGuest.of(context).answer("load", why) { guest in
                var steps: UInt64 = 0
                guard length == 8, let bytes = unsafe bytes else { return }
                unsafe memcpy(&steps, bytes, 8)
                guest.steps.store(steps, ordering: .releasing)
            }
        }
        unsafe guest.memory_lost = { context, rows, count in
            let guest = unsafe CountingGuest.of(context)
            for index in 0..<count {
                let row = unsafe rows![index]
                let name = unsafe String(cString: row.block)
                let pages = unsafe row.pages
                guest.change { $0.lost[name] = pages }
            }
        }
        unsafe guest.memory_arrived = { context in
            _ = unsafe CountingGuest.of(context).answer("memory_arrived", nil) { _ in }
        }
        var block: OpaquePointer? = unsafe ram
        return unsafe withUnsafePointer(to: &block) { blocks in
            unsafe "c-tests".withCString { name in
                unsafe guest.ram = blocks
                unsafe guest.machine_type = name
                return unsafe body(&guest)
            }
        }
    }

    private static func of(_ context: UnsafeMutableRawPointer?) -> CountingGuest {
        unsafe Unmanaged<CountingGuest>.fromOpaque(context!).takeUnretainedValue()
    }

    private func save(to sink: OpaquePointer?) {
        let handle = UInt(bitPattern: sink)
        let count = behaviour.withLock { behaviour in
            behaviour.sink = handle
            return behaviour.savedBytes
        }
        var steps = stepsDone
        guard let count else {
            _ = unsafe postcopy_sink_write(sink, &steps, 8)
            return
        }
        let bytes = [UInt8](repeating: 7, count: count)
        _ = unsafe postcopy_sink_write(sink, bytes, bytes.count)
    }

    private func answer(
        _ name: String, _ why: UnsafeMutablePointer<CChar>?, _ body: (CountingGuest) -> Void
    ) -> Int32 {
        let (reason, inside) = behaviour.withLock { behaviour in
            behaviour.calls.append(name)
            return (behaviour.failing[name], behaviour.inside[name])
        }
        inside?()
        guard let reason else {
            body(self)
            return 0
        }
        if let why = unsafe why {
            for (index, byte) in reason.utf8.prefix(Int(POSTCOPY_WHY_BYTES)).enumerated() {
                unsafe why[index] = CChar(bitPattern: byte)
            }
        }
        return -5
    }
}

/// Why a test cannot begin.
struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
