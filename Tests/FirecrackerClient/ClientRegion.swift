import CShims
import LinuxKernel
import Synchronization
import TestSupport

/// Memory of this process whose missing pages somebody else brings.
final class ClientRegion: Sendable {
    let shape: RegionShape
    let address: UInt64
    private let content: ServedContent
    private let states: Mutex<[PageState]>

    /// What a page must hold. The number grows with each change, so that a look before and one after
    /// tell that nothing changed between.
    struct PageState: Equatable {
        enum Holding: Equatable {
            case content
            /// On its way out: the content, or zeros.
            case going
            case zeros
            /// On its way to what this process writes itself.
            case changing
            case own
        }

        var holding = Holding.content
        var version: UInt32 = 0
    }

    /// - Parameter alignment: of its address, at least a page of its own.
    init(_ shape: RegionShape, seed: UInt64, alignment: UInt64) {
        self.shape = shape
        content = ServedContent(seed: seed)
        let answer: Int64
        switch shape.kind {
        case .anonymous: answer = pc_map(-1, shape.lengthBytes, alignment)
        case .huge: answer = pc_map_huge(shape.lengthBytes, 21)
        case .shared:
            let memfd = unsafe pc_memfd_create("guest_mem", shape.lengthBytes)
            precondition(memfd >= 0, "a memfd")
            answer = pc_map(memfd, shape.lengthBytes, alignment)
        }
        guard answer >= 0 else { fatalError("no memory for \(shape): errno \(-answer)") }
        address = UInt64(answer)
        states = Mutex(
            Array(repeating: PageState(), count: Int(shape.lengthBytes / shape.pageBytes)))
    }

    var pageCount: Int { Int(shape.lengthBytes / shape.pageBytes) }

    /// Has one page, and no more, with other content than it is to have.
    func touch(_ page: Int) {
        _ = pc_advise(address, shape.lengthBytes, PC_ADVICE_NO_HUGE_PAGES)
        write(page)
    }

    /// Reads a page and compares it with what it must hold.
    /// - Returns: what it held; `nil` when that is wrong.
    func verify(_ page: Int) -> PageState.Holding? {
        let before = states.withLock { $0[page] }
        let start = UInt64(page) * shape.pageBytes
        var found: [Bool] = [true, true, true]
        for offset in stride(from: start, to: start + shape.pageBytes, by: 8) {
            let word = unsafe UnsafePointer<UInt64>(bitPattern: UInt(address + offset))!.pointee
            let isContent = word == content.word(at: shape.offset + offset)
            let isOwn = word == ownWord(page)
            guard isContent || word == 0 || isOwn else { return nil }
            found = [found[0] && isContent, found[1] && word == 0, found[2] && isOwn]
        }
        let after = states.withLock { $0[page] }
        // Whatever was on its way meanwhile was one of the three, word by word.
        guard before == after else { return after.holding }
        switch before.holding {
        case .content: return found[0] ? .content : nil
        case .zeros: return found[1] ? .zeros : nil
        case .own: return found[2] ? .own : nil
        case .going, .changing: return before.holding
        }
    }

    /// Gives pages back, as a balloon does: from then on they hold zeros. The call waits until whoever
    /// serves the memory has heard of it.
    func remove(_ pages: Range<Int>) {
        set(pages, .going)
        let advice = shape.kind == .shared ? PC_ADVICE_REMOVE : PC_ADVICE_DROP
        let answer = pc_advise(
            address + UInt64(pages.lowerBound) * shape.pageBytes,
            UInt64(pages.count) * shape.pageBytes, advice)
        guard answer == 0 else { fatalError("madvise: errno \(-answer)") }
        set(pages, .zeros)
    }

    /// Writes something else, as a guest does that has a page of its balloon back.
    func write(_ page: Int) {
        set(page..<page + 1, .changing)
        let start = UInt64(page) * shape.pageBytes
        for offset in stride(from: start, to: start + shape.pageBytes, by: 8) {
            let place = unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(address + offset))!
            unsafe place.pointee = ownWord(page)
        }
        set(page..<page + 1, .own)
    }

    private func set(_ pages: Range<Int>, _ holding: PageState.Holding) {
        states.withLock { states in
            for page in pages {
                states[page] = PageState(holding: holding, version: states[page].version + 1)
            }
        }
    }

    /// Even, as no word of the content is that is not 0.
    private func ownWord(_ page: Int) -> UInt64 { UInt64(page) << 8 | 0xf0 << 56 }
}
