import Glibc
import Histogram
import LinuxKernel
import PageModel
import TestSupport

/// A thread that touches every page once in a seeded random order and times the touches that fault, as
/// the faulting thread itself sees them.
struct Toucher {
    let ram: GuestRAM
    let seed: UInt64
    /// Stop after so many faults; what is left would measure the same again.
    let faultsMax: Int

    struct Result: Sendable {
        var latency: [UInt64] = []
        var wrongPages = 0
    }

    /// What the source put into a page; both ends can tell.
    static func content(ofPage page: Int) -> UInt64 { UInt64(page) &* 0x9e37_79b9_7f4a_7c15 | 1 }

    static func fill(_ ram: GuestRAM) {
        for page in 0..<ram.geometry.targetPageCount {
            ram.withMutablePage(at: UInt64(page) << 12, lengthBytes: 4096) { words in
                let word = content(ofPage: page)
                for index in words.indices { words[index] = word &+ UInt64(index) &* 0xff51_afd7 }
            }
        }
    }

    func run() -> Result {
        var result = Result()
        result.latency.reserveCapacity(faultsMax)
        var generator = SeededRandom(seed: seed)
        let pages = Array(0..<ram.geometry.targetPageCount).shuffled(using: &generator)
        for page in pages where !isPresent(page) {
            let start = Monotonic.now()
            let word = ram.loadWord(at: UInt64(page) << 12)
            result.latency.append(Monotonic.now() - start)
            if word != Self.content(ofPage: page) { result.wrongPages += 1 }
            if result.latency.count == faultsMax { break }
        }
        return result
    }

    /// `mincore` says so without touching the page, in a third of a microsecond.
    private func isPresent(_ page: Int) -> Bool {
        var present: UInt8 = 0
        let address = UInt(ram.address.rawValue) + UInt(page) << 12
        _ = unsafe mincore(UnsafeMutableRawPointer(bitPattern: address), 4096, &present)
        return present & 1 != 0
    }
}
