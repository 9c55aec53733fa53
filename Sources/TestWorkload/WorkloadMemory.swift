internal import LinuxKernel

/// What a generator needs of memory: real memory, or a count per page that stands for it.
protocol WorkloadMemory {
    /// Word 0 of `page`: its initial value and the number of writes since, added.
    func countWord(ofPage page: Int) -> UInt64

    /// Does the next write to `page`, whose word 0 was found to be `countWord`.
    mutating func write(page: Int, countWord: UInt64)
}

/// The memory of the guest itself. Each access may fault and wait for the page.
struct GuestMemory: WorkloadMemory {
    let ram: GuestRAM
    let content: ContentModel

    @inline(__always)
    func countWord(ofPage page: Int) -> UInt64 { ram.loadWord(at: offset(of: page)) }

    @inline(__always)
    func write(page: Int, countWord: UInt64) {
        let key = content.pageKey(page)
        let done = countWord &- content.initialWord(0, key: key)
        let word = 1 &+ done % UInt64(ContentModel.writtenWords)
        let start = offset(of: page)
        ram.storeWord(countWord &+ 1, at: start)
        ram.storeWord(
            content.writtenValue(key: key, write: done &+ 1), at: start &+ word &* 8)
    }

    @inline(__always)
    private func offset(of page: Int) -> UInt64 {
        UInt64(truncatingIfNeeded: page) &* WorkloadSpecification.pageBytes
    }
}

/// Word 0 of each page of one vCPU's share: all that a replay needs of memory.
struct CountedMemory: WorkloadMemory {
    private let content: ContentModel
    private let pages: Range<Int>
    /// Initial value plus writes, as in memory: so a step computes no content.
    private var countWords: [UInt64]

    init(content: ContentModel, pages: Range<Int>) {
        self.content = content
        self.pages = pages
        countWords = pages.map { content.initialWord(0, key: content.pageKey($0)) }
    }

    /// The writes to each page. 64 bits, since a single hot page is written 2^32 times in a minute
    /// or two.
    var writes: [UInt64] {
        zip(pages, countWords).map { page, word in
            word &- content.initialWord(0, key: content.pageKey(page))
        }
    }

    @inline(__always)
    func countWord(ofPage page: Int) -> UInt64 { countWords[page &- pages.lowerBound] }

    @inline(__always)
    mutating func write(page: Int, countWord: UInt64) {
        countWords[page &- pages.lowerBound] = countWord &+ 1
    }
}
