import LinuxKernel
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import TestWorkload

/// A guest whose pages hold what the content model says of their guest physical addresses, and whose
/// vCPUs read all of them. Devices beside it are loaded by `whenLoaded`.
final class ModelGuest: Guest {
    let machineType = "model-1"
    let memory: [GuestRAM]
    let faultOrigin = FaultOrigin.userAndKernel
    private let model: ContentModel
    private let vcpuCount: Int
    private let seed: UInt64
    private let loading = Mutex<@Sendable () throws -> Void>({})
    private let readers = Mutex<[Bounded<Int>]>([])
    let lost = Atomic(0)

    init(_ memory: [GuestRAM], seed: UInt64, vcpuCount: Int = 0) {
        self.memory = memory
        self.seed = seed
        self.vcpuCount = vcpuCount
        model = ContentModel(seed: seed, fill: .mixed)
    }

    var vcpuThreads: [Int32] { [] }

    func whenLoaded(_ action: @escaping @Sendable () throws -> Void) {
        loading.withLock { $0 = action }
    }

    func fill() {
        for ram in memory {
            for page in 0..<ram.usedPages {
                let number = number(of: page, in: ram)
                // A page that was never touched takes no memory, here nor there.
                if model.isInitiallyZero(page: number) { continue }
                ram.withMutablePage(at: UInt64(page) << 12, lengthBytes: 4096) { words in
                    model.expectedPage(number, writes: 0, into: &words)
                }
            }
        }
    }

    /// The model's number of a page.
    private func number(of page: Int, in ram: GuestRAM) -> Int {
        Int(ram.guestPhysicalAddress >> 12) + page
    }

    /// Pages that are not what they should be, and pages that bear a client's mark.
    func judge() -> (wrong: Int, marked: Int) {
        var judged = (wrong: 0, marked: 0)
        for ram in memory {
            for page in 0..<ram.usedPages {
                let number = self.number(of: page, in: ram)
                ram.withPage(at: UInt64(page) << 12, lengthBytes: 4096) { words in
                    if !SharedContent.isRight(model, page: number, words) { judged.wrong += 1 }
                    if words[511] == SharedContent.mark(ofPage: number) { judged.marked += 1 }
                }
            }
        }
        return judged
    }

    func pause() {}

    func resume() {
        let started = (0..<vcpuCount).compactMap { index in
            try? Bounded("vcpu\(index)") { self.read(index) }
        }
        readers.withLock { $0 += started }
    }

    /// How many pages its vCPUs found wrong; `nil` when one hangs.
    func wrongReads() -> Int? {
        let readers = readers.withLock { $0 }
        let wrong = readers.map { $0.output() }
        return wrong.contains(nil) ? nil : wrong.compactMap(\.self).reduce(0, +)
    }

    private func read(_ index: Int) -> Int {
        var random = SeededRandom(seed: seed &+ 100 &+ UInt64(index))
        var wrong = 0
        for ram in memory {
            var pages = Array(0..<ram.usedPages)
            pages.shuffle(using: &random)
            for page in pages {
                let number = self.number(of: page, in: ram)
                let isRight = ram.withPage(at: UInt64(page) << 12, lengthBytes: 4096) {
                    SharedContent.isRight(model, page: number, $0)
                }
                if !isRight { wrong += 1 }
            }
        }
        return wrong
    }

    func saveDevices() -> [UInt8] { [1, 2, 3] }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        do { try loading.withLock { $0 }() } catch { throw GuestError("\(error)") }
    }

    func memoryLost(_ missing: [MissingPages]) {
        lost.add(missing.reduce(0) { $0 + $1.hostPages }, ordering: .relaxed)
    }
}
