import Glibc
import Simulation
import Synchronization

/// Which seed each thread runs, so that one whose core traps is named before the process dies.
///
/// Threads: each writes its own slot; the handler of a signal reads all. It allocates nothing, takes no
/// lock, and calls only what `signal-safety(7)` lists.
enum LastWords {
    private static let slotCount = 256
    private static let threads = InlineArray<256, Atomic<UInt>> { _ in Atomic(0) }
    private static let seeds = InlineArray<256, Atomic<UInt64>> { _ in Atomic(0) }
    /// Blocks, pages, vCPUs and faults, 16 bits each.
    private static let limits = InlineArray<256, Atomic<UInt64>> { _ in Atomic(0) }

    /// Call it before any seed runs.
    static func install() {
        // A `static let` is made by whoever asks first, and that may not be a handler.
        _ = threads[0].load(ordering: .relaxed)
        _ = seeds[0].load(ordering: .relaxed)
        _ = limits[0].load(ordering: .relaxed)
        for number in [SIGILL, SIGTRAP, SIGABRT, SIGSEGV] { signal(number, LastWords.say) }
    }

    /// The calling thread runs this seed from now on.
    static func began(_ seed: UInt64, _ most: Limits) {
        guard let slot = slot(of: pthread_self()) else { return }
        seeds[slot].store(seed, ordering: .relaxed)
        let packed = [most.blocks, most.pages, most.vcpus, most.faults].reduce(0 as UInt64) {
            $0 << 16 | UInt64(UInt16(clamping: $1))
        }
        limits[slot].store(packed, ordering: .relaxed)
    }

    /// The slot that is the thread's, from the first time on that it asks.
    private static func slot(of thread: UInt) -> Int? {
        for slot in 0..<slotCount {
            let owner = threads[slot].load(ordering: .relaxed)
            if owner == thread { return slot }
            guard owner == 0 else { continue }
            let (isMine, _) = threads[slot].compareExchange(
                expected: 0, desired: thread, ordering: .relaxed)
            if isMine { return slot }
        }
        return nil
    }

    // MARK: - In the handler

    private static let say: @convention(c) (Int32) -> Void = { number in
        // A signal from outside comes to any thread: then all seeds that run are named.
        let thread = pthread_self()
        var isKnown = false
        for slot in 0..<slotCount where threads[slot].load(ordering: .relaxed) == thread {
            name(slot, number)
            isKnown = true
        }
        if !isKnown {
            for slot in 0..<slotCount where threads[slot].load(ordering: .relaxed) != 0 {
                name(slot, number)
            }
        }
        signal(number, SIG_DFL)
        raise(number)
    }

    private static func name(_ slot: Int, _ number: Int32) {
        let seed = seeds[slot].load(ordering: .relaxed)
        let most = limits[slot].load(ordering: .relaxed)
        write("\npostcopy-simulate: signal ")
        write(UInt64(number))
        write(" in seed ")
        write(seed)
        write("\nrepeat it: swift run -c release postcopy-simulate --seed ")
        write(seed)
        write(" --blocks ")
        write(most >> 48)
        write(" --pages ")
        write(most >> 32 & 0xffff)
        write(" --vcpus ")
        write(most >> 16 & 0xffff)
        write(" --faults ")
        write(most & 0xffff)
        write("\n")
    }

    private static func write(_ text: StaticString) {
        // SAFETY: a static string lasts as long as the process.
        _ = unsafe Glibc.write(2, text.utf8Start, text.utf8CodeUnitCount)
    }

    private static func write(_ value: UInt64) {
        var digits = InlineArray<20, UInt8>(repeating: 0)
        var first = digits.count
        var rest = value
        repeat {
            first -= 1
            digits[first] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        } while rest > 0
        unsafe digits.span.withUnsafeBytes { bytes in
            // SAFETY: `first` is inside the digits, which outlast the call.
            _ = unsafe Glibc.write(2, bytes.baseAddress?.advanced(by: first), bytes.count - first)
        }
    }
}
