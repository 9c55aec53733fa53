import Glibc
import LinuxKernel
import PageModel

/// Memory whose every page was written, with zeros: it is not the kernel's shared page of zeros.
struct FilledMemory {
    let ram: GuestRAM

    init(_ ram: GuestRAM) {
        self.ram = ram
        for page in 0..<ram.geometry.targetPageCount {
            ram.clearPage(at: RAMOffset(rawValue: UInt64(page) << 12))
        }
    }

    /// - Precondition: `byteCount` is a multiple of the page size.
    init(byteCount: Int) {
        guard
            let block = try? BlockGeometry(
                name: "bitmap", lengthBytes: UInt64(byteCount), hostPage: HostMemory.pageSize),
            let ram = try? GuestRAM(block, backing: .anonymous)
        else { fatalError("no memory of \(byteCount) bytes") }
        self.init(ram)
    }

    /// Reads all of it once.
    func read(by loop: ReadLoop) {
        ram.withPage(at: 0, lengthBytes: Int(ram.geometry.lengthBytes)) { words in
            precondition(loop.isZero(words), "memory of zeros")
        }
    }
}

/// Plain loops over memory in order. Which one is the fastest depends on the processor: the best of
/// them is what one thread can read.
enum ReadLoop: String, CaseIterable {
    case words = "8-byte loads"
    case vectors = "64-byte vectors"
    case unrolledVectors = "64-byte vectors by fours"
    case library = "the C library's memchr"

    /// Whether all words are zero; reads them to the end if so.
    /// - Precondition: a multiple of 256 bytes, aligned to 64.
    func isZero(_ span: Span<UInt64>) -> Bool {
        unsafe span.withUnsafeBytes { bytes in
            switch self {
            case .words: unsafe Self.words(bytes)
            case .vectors: unsafe Self.vectors(bytes, perStep: 1)
            case .unrolledVectors: unsafe Self.vectors(bytes, perStep: 4)
            case .library: unsafe memchr(bytes.baseAddress!, 1, bytes.count) == nil
            }
        }
    }

    @unsafe private static func words(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var even: UInt64 = 0
        var odd: UInt64 = 0
        for offset in stride(from: 0, to: bytes.count, by: 16) {
            even |= unsafe bytes.baseAddress!.load(fromByteOffset: offset, as: UInt64.self)
            odd |= unsafe bytes.baseAddress!.load(fromByteOffset: offset + 8, as: UInt64.self)
        }
        return even | odd == 0
    }

    @inline(__always)
    @unsafe private static func vectors(_ bytes: UnsafeRawBufferPointer, perStep: Int) -> Bool {
        var sum = SIMD8<UInt64>()
        for offset in stride(from: 0, to: bytes.count, by: 64 * perStep) {
            for step in 0..<perStep {
                let at = offset + step * 64
                sum |= unsafe bytes.baseAddress!.load(fromByteOffset: at, as: SIMD8<UInt64>.self)
            }
        }
        return sum == SIMD8()
    }
}
