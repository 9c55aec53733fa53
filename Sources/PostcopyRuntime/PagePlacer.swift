internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// Why a page could not be placed.
enum PlacingError: Error, CustomStringConvertible {
    case assembly(AssemblyError)
    case kernel(Errno, block: String, offset: RAMOffset)
    /// Its content may differ from what the guest has used meanwhile.
    case secondCopy(block: String, offset: RAMOffset)

    var description: String {
        switch self {
        case .assembly(let error): error.description
        case .kernel(let error, let block, let offset):
            "placing a page at offset \(offset.rawValue) of block '\(block)': \(error)"
        case .secondCopy(let block, let offset):
            "the source broke the protocol: the page at offset \(offset.rawValue) of block "
                + "'\(block)' came again and had not been discarded"
        }
    }
}

/// Places what one channel brings. One thread owns it.
///
/// Pages of the system's size gather into runs, because one `UFFDIO_COPY` of many pages costs half as
/// much a page; larger host pages are assembled whole. In memory of small pages the kernel makes those
/// of a host page present one after the other: a thread may fault beside one that is there already.
struct PagePlacer: ~Copyable {
    enum Channel {
        case background
        case urgent
    }

    private let state: DestinationState
    private let channel: Channel
    private let runPagesMax: Int
    /// Whether pages may be there that are not known for received: the kernel took a part of what was
    /// placed together, when its memory ran out on an earlier link.
    private let isResumed: Bool
    private var staging: StagingArea
    private var assembly: HostPageAssembly
    private var run: Run?
    /// Whether all that came of the host page under assembly is zero.
    private var isAssemblyZero = true

    /// Contiguous host pages of one kind that are not yet placed.
    private struct Run {
        let block: BlockIndex
        let start: RAMOffset
        let isZero: Bool
        var lengthBytes: UInt64

        var end: UInt64 { start.rawValue + lengthBytes }
    }

    init(state: DestinationState, channel: Channel, isResumed: Bool = false) {
        self.state = state
        self.channel = channel
        self.isResumed = isResumed
        // Somebody waits for an urgent page: it gathers nothing.
        runPagesMax = channel == .urgent ? 1 : ChannelTuning.backgroundPages
        let largest = state.geometries.map(\.hostPage.bytes).max() ?? PageSize.target.bytes
        staging = StagingArea(
            capacityBytes: max(Int(largest), runPagesMax * Int(PageSize.target.bytes)))
        assembly = HostPageAssembly(blocks: state.geometries)
    }

    /// Takes one target page: `payload` of `bytes`, or zeros. Answers what was placed by this call,
    /// which may be an earlier run.
    mutating func add(
        _ bytes: Span<UInt8>, _ payload: Range<Int>?, at offset: RAMOffset, of block: BlockIndex
    ) throws(PlacingError) -> PlacedRange? {
        let outcome: HostPageAssembly.Outcome
        do { outcome = try assembly.add(targetPageInBlock: offset, of: block) } catch {
            throw .assembly(error)
        }
        let geometry = state.geometries[block.rawValue]
        if case .complete(let page, _) = outcome, !state.demand.admits(page) {
            throw .secondCopy(block: geometry.name, offset: offset)
        }
        switch outcome {
        case .incomplete(let slot):
            let earlier = try flush()
            stage(bytes, payload, at: slot)
            return earlier
        case .complete(let page, let slot) where geometry.hostPage.targetPages > 1:
            stage(bytes, payload, at: slot)
            defer { isAssemblyZero = true }
            // The kernel has no zero page for hugetlb.
            return try place(
                block, geometry.offset(of: page.page), lengthBytes: Int(geometry.hostPage.bytes),
                isZero: isAssemblyZero && state.blocks[block.rawValue].backing != .hugetlb)
        case .complete:
            return try addToRun(bytes, payload, at: offset, of: block)
        }
    }

    /// Places the run that waits.
    mutating func flush() throws(PlacingError) -> PlacedRange? {
        guard let run = run.take() else { return nil }
        return try place(
            run.block, run.start, lengthBytes: Int(run.lengthBytes), isZero: run.isZero)
    }

    /// Answers a fault in a page that was received: it was placed meanwhile, or it came as zero
    /// before faults were reported and its memory was never touched.
    ///
    /// Only for the small page that faulted: a thread in another one has a fault of its own.
    func settleFault(in page: HostPage, at address: HostAddress) throws(PlacingError) {
        let ram = state.blocks[page.block.rawValue]
        let unit = ram.placingUnit.bytes
        let place = ram.offset(of: address)?.rawValue ?? ram.geometry.offset(of: page.page).rawValue
        let start = RAMOffset(rawValue: place & ~(unit - 1))
        do throws(Errno) {
            // Huge zero pages are always written out, so there is no hole to fill.
            if ram.backing == .hugetlb { return try state.uffd.wake(page.page, of: ram) }
            _ = try state.uffd.placeZeros(lengthBytes: Int(unit), at: start, of: ram)
        } catch {
            throw .kernel(error, block: ram.geometry.name, offset: start)
        }
    }

    /// Whether the channel may end here: no host page is half received.
    var isIdle: Bool { assembly.isIdle }

    private func extends(_ block: BlockIndex, _ offset: RAMOffset, isZero: Bool) -> Bool {
        guard let run else { return true }
        return run.block == block && run.end == offset.rawValue && run.isZero == isZero
            && run.lengthBytes < UInt64(runPagesMax) * PageSize.target.bytes
    }

    private mutating func addToRun(
        _ bytes: Span<UInt8>, _ payload: Range<Int>?, at offset: RAMOffset, of block: BlockIndex
    ) throws(PlacingError) -> PlacedRange? {
        let isZero = payload == nil
        let placed = extends(block, offset, isZero: isZero) ? nil : try flush()
        var run = run ?? Run(block: block, start: offset, isZero: isZero, lengthBytes: 0)
        if let payload { staging.write(bytes, payload, at: Int(run.lengthBytes)) }
        run.lengthBytes += PageSize.target.bytes
        self.run = run
        return channel == .urgent ? try flush() : placed
    }

    private mutating func stage(_ bytes: Span<UInt8>, _ payload: Range<Int>?, at slot: Int) {
        if let payload {
            isAssemblyZero = false
            staging.write(bytes, payload, at: slot)
        } else {
            staging.clear(at: slot, lengthBytes: Int(PageSize.target.bytes))
        }
    }

    private func place(
        _ block: BlockIndex, _ start: RAMOffset, lengthBytes: Int, isZero: Bool
    ) throws(PlacingError) -> PlacedRange {
        let ram = state.blocks[block.rawValue]
        // Through this process's own mapping, also where others map the file: the kernel fills a page of
        // its own and puts it into the file's cache whole, so that nobody sees a part of it. Whoever
        // waits for it in another mapping is not woken by that.
        let placement: Placement
        do throws(Errno) {
            placement =
                isZero
                ? try state.uffd.placeZeros(lengthBytes: lengthBytes, at: start, of: ram)
                : try state.uffd.place(staging, lengthBytes: lengthBytes, at: start, of: ram)
        } catch {
            throw .kernel(error, block: ram.geometry.name, offset: start)
        }
        guard placement.alreadyPresentPages == 0 || isResumed else {
            throw .secondCopy(block: ram.geometry.name, offset: start)
        }
        let first = ram.geometry.hostPage(containing: start)
        let pageCount = lengthBytes >> ram.geometry.hostPage.shift
        count(UInt64(lengthBytes >> PageSize.target.shift), isZero: isZero)
        return PlacedRange(
            block: block, pages: first..<HostPageIndex(rawValue: first.rawValue + pageCount),
            atNanoseconds: Monotonic.now())
    }

    private func count(_ pages: UInt64, isZero: Bool) {
        let counters = state.counters
        if isZero { counters.zeroPages.add(pages, ordering: .relaxed) }
        switch channel {
        case .background: counters.backgroundPages.add(pages, ordering: .relaxed)
        case .urgent: counters.urgentPages.add(pages, ordering: .relaxed)
        }
    }
}
