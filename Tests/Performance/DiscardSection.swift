import Glibc
import LinuxKernel
import PageModel
import StreamWire
import TestSupport

/// The switch's work on the bitmaps of one large block, of which every page was sent once and some were
/// written again. The bytes go nowhere: sending them is the link's time.
struct DiscardSection {
    let runs: Int

    private static let largest: UInt64 = 1 << 40

    /// Prints how many ranges each case has.
    func rows() throws -> [Row] {
        var rows: [Row] = []
        for (share, percent) in [(0.001, "0.1 %"), (0.01, "1 %"), (0.1, "10 %")] {
            let pages = RandomPages(
                count: Int(Self.largest >> 12), share: share, seed: UInt64(share * 1000))
            for page in [PageSize.target, .size2MiB] {
                for gibibytes in [256, 1024] as [UInt64] {
                    let block = try BlockGeometry(
                        name: "pc.ram", lengthBytes: gibibytes << 30, hostPage: page)
                    let name = "discards \(gibibytes) GiB, \(page.bytes >> 10) KiB pages, "
                    rows.append(measure(block, pages, name + percent))
                }
            }
        }
        return rows
    }

    private func measure(_ block: BlockGeometry, _ pages: RandomPages, _ name: String) -> Row {
        let bitmaps = FilledMemory(byteCount: 2 * block.targetPageCount / 8)
        let sent = PageBitmap(pageCount: block.targetPageCount, allSet: true)
        var totals = DiscardTotals()
        var given = 0
        let pairs = (0..<runs).map { _ in
            let floor = milliseconds { bitmaps.read(by: .unrolledVectors) }
            let dirty = pages.bitmap(of: block)
            let ours = milliseconds {
                dirty.canonicalize(sent: sent)
                var encoder = DiscardEncoder()
                encoder.encode(dirty) { given += $0.count }
                encoder.finish { given += $0.count }
                totals = encoder.totals
            }
            return (floor, ours)
        }
        precondition(given == totals.bytes * runs, "the encoder's count of bytes")
        let row = Row(name, unit: "ms", pairs: pairs)
        print(
            "\(name): \(totals.ranges) ranges in \(totals.commands) commands, "
                + "\(totals.bytes) bytes")
        return row
    }
}

/// The search for what is dirty, in bitmaps where there is little to find.
struct ScanSection {
    let runs: Int

    func rows() throws -> [Row] {
        let block = try BlockGeometry(name: "pc.ram", lengthBytes: 1 << 40, hostPage: .target)
        let memory = FilledMemory(byteCount: block.targetPageCount / 8)
        let sparse = RandomPages(count: block.targetPageCount, share: 1e-4, seed: 1)
        let cases = [
            ("nothing dirty", DirtyBitmap(block: block, allDirty: false)),
            ("one page in 10,000 dirty", sparse.bitmap(of: block)),
            ("all dirty", DirtyBitmap(block: block, allDirty: true)),
        ]
        return cases.map { name, bitmap in
            let pairs = (0..<runs).map { _ in
                let floor = milliseconds { memory.read(by: .unrolledVectors) }
                var found = 0
                let ours = milliseconds {
                    var page = 0
                    while let run = bitmap.nextRun(from: page) {
                        found += run.count
                        page = run.upperBound
                    }
                }
                precondition(found == bitmap.dirtyCount, "a scan that finds every page")
                return (floor, ours)
            }
            return Row("scan 32 MiB, \(name)", unit: "ms", pairs: pairs)
        }
    }
}

/// Random pages as the words of a bitmap, kept so that a run can have them as they were.
private struct RandomPages {
    private var words: [UInt64]

    /// - Parameter share: how many of all pages, as a probability.
    init(count: Int, share: Double, seed: UInt64) {
        words = Array(repeating: 0, count: (count + 63) / 64)
        var random = SeededRandom(seed: seed)
        var page = 0
        while true {
            // From one such page to the next is geometric.
            let uniform = Double.random(in: 0..<1, using: &random)
            page += Int(log(1 - uniform) / log(1 - share))
            guard page < count else { return }
            words[page >> 6] |= 1 << UInt64(page & 63)
            page += 1
        }
    }

    /// A bitmap of a block that may be shorter than these pages.
    func bitmap(of block: BlockGeometry) -> DirtyBitmap {
        let bitmap = DirtyBitmap(block: block, allDirty: false)
        for index in 0..<(block.targetPageCount + 63) / 64 {
            bitmap.insert(word: words[index], at: index)
        }
        return bitmap
    }
}
