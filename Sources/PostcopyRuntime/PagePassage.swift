public import LinuxKernel
internal import PageModel
internal import StreamWire
internal import Synchronization

/// Joins a destination with a source over the same memory: a guest that arrives at the one and leaves
/// by the other, page by page, while its memory is still coming.
///
/// Sources may follow each other, one at a time: one whose peer refused the guest is replaced by
/// another. None may begin to send before the destination has loaded the guest's devices.
public final class PagePassage: Sendable {
    /// What has come and was not yet sent on; the source claims from it.
    let sendable: [DirtyBitmap]
    /// What has come. Set behind `sendable`, so that a page which is here and cannot be claimed was
    /// sent already.
    private let arrived: [ReceivedBitmap]
    /// What the source's peer waits for and has not come. Set by the source's return-path thread
    /// before it looks at `arrived`; read by placers after they have set that.
    private let awaited: [RequestedPages]

    /// Wakes the destination's fault thread, which asks for what is in `requests`.
    let requestFlag: EventFlag
    let requests: Mailbox<HostPage>
    /// Wakes the source's return-path thread, which sends what is in `arrivals`.
    let arrivalFlag: EventFlag
    let arrivals: Mailbox<HostPage>
    /// Wakes the source's background sender where it waits for more to come.
    let senderFlag: EventFlag
    private let isSenderWaiting = Atomic(false)
    private let hasEnded = Atomic(false)

    /// Each message is a page that a thread of the final guest waits for; `post` takes more.
    private static let capacity = 1_024

    /// - Throws: `Errno` when no descriptor is left.
    public init(of memory: [GuestRAM]) throws(Errno) {
        let blocks = memory.map(\.geometry)
        sendable = blocks.map { DirtyBitmap(block: $0, allDirty: false) }
        arrived = blocks.map(ReceivedBitmap.init(block:))
        awaited = blocks.map(RequestedPages.init(block:))
        requestFlag = try EventFlag()
        requests = Mailbox(capacity: Self.capacity, flag: requestFlag)
        arrivalFlag = try EventFlag()
        arrivals = Mailbox(capacity: Self.capacity, flag: arrivalFlag)
        senderFlag = try EventFlag()
    }

    /// Says that nothing more will come: a source that still owes pages pauses once it has sent what is
    /// here.
    public func end() {
        hasEnded.store(true, ordering: .releasing)
        senderFlag.raise()
    }

    var isEnded: Bool { hasEnded.load(ordering: .acquiring) }

    /// Notes host pages of a block that are here from now on, each of them once.
    func note(_ pages: Range<HostPageIndex>, of block: BlockIndex) {
        offer(pages, of: block)
        arrived[block.rawValue].insert(pages)
        let awaited = awaited[block.rawValue]
        while let page = awaited.first(in: pages) {
            awaited.remove(page)
            arrivals.post(HostPage(block: block, page: page))
        }
        if isSenderWaiting.load(ordering: .sequentiallyConsistent) { senderFlag.raise() }
    }

    /// Asks for a page that could not be claimed; `false` when it needs no asking: it was sent, or has
    /// come just now and can be claimed.
    func want(_ page: HostPage) -> Bool {
        let awaited = awaited[page.block.rawValue]
        let isNew = awaited.insert(page.page)
        guard !arrived[page.block.rawValue].contains(page.page) else {
            awaited.remove(page.page)
            return false
        }
        if isNew { requests.post(page) }
        return true
    }

    /// Makes everything that has come sendable again, for a source that begins anew.
    func restart() {
        for (index, awaited) in awaited.enumerated() {
            let all = sendable[index].block.hostPages
            while let page = awaited.first(in: all) { awaited.remove(page) }
        }
        arrivals.clear()
        for (index, arrived) in arrived.enumerated() {
            var page = HostPageIndex(rawValue: 0)
            while let run = arrived.nextPlaced(from: page) {
                offer(run, of: BlockIndex(rawValue: index))
                page = run.upperBound
            }
        }
    }

    /// Whether anything is here that was not sent on.
    var hasSendable: Bool { sendable.contains { $0.nextRun(from: 0) != nil } }

    /// Lets the background sender wait until more has come or `senderFlag` is raised otherwise; answers
    /// `false` when the time ran out first.
    func awaitArrival(nanosecondsMax: UInt64) -> Bool {
        // First the word that somebody waits, then a last look: whoever brings a page does it the other
        // way round.
        isSenderWaiting.store(true, ordering: .sequentiallyConsistent)
        defer { isSenderWaiting.store(false, ordering: .relaxed) }
        if hasSendable { return true }
        defer { senderFlag.clear() }
        return senderFlag.wait(timeoutNanoseconds: nanosecondsMax)
    }

    /// The first target page of a host page decides who claims it: it is set last.
    private func offer(_ pages: Range<HostPageIndex>, of block: BlockIndex) {
        let sendable = sendable[block.rawValue]
        let count = sendable.block.hostPage.targetPages
        let first = pages.lowerBound.rawValue * count
        let end = pages.upperBound.rawValue * count
        guard count > 1 else {
            sendable.insert(first..<end)
            return
        }
        for page in stride(from: first, to: end, by: count) {
            sendable.insert(page + 1..<page + count)
            sendable.insert(page..<page + 1)
        }
    }
}
