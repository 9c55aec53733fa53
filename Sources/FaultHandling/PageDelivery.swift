internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Brings pages from the provider to where they are missing. One thread owns it.
struct PageDelivery: ~Copyable {
    enum Outcome {
        /// They are there, or nobody can wait for them any more.
        case done
        /// The handler ends.
        case over
        case failed(String)
    }

    private let core: FaultCore
    private let gate: Int
    private let staging: StagingArea

    init(_ core: FaultCore, gate: Int, capacityBytes: Int) {
        self.core = core
        self.gate = gate
        staging = StagingArea(capacityBytes: capacityBytes)
    }

    /// Reads a page that is claimed and places it, for somebody who waits.
    func deliver(_ page: HostPage) -> Outcome {
        let next = HostPageIndex(rawValue: page.page.rawValue + 1)
        return deliver(page.page..<next, of: page.block, isUrgent: true)
    }

    /// Reads pages that are claimed and places them.
    func deliver(
        _ pages: Range<HostPageIndex>, of block: BlockIndex, isUrgent: Bool
    ) -> Outcome {
        let region = core.memory.regions[block.rawValue]
        let bytes = region.pageBytes(pages.upperBound.rawValue - pages.lowerBound.rawValue)
        let first = HostPage(block: block, page: pages.lowerBound)
        var content = PageContent.zeros
        if !core.ledger.removedBytes(in: pages, of: block).isOne(0..<bytes) {
            do throws(PageProviderError) {
                content = try staging.withBytes(lengthBytes: bytes) {
                    span throws(PageProviderError) in
                    try core.provider.read(
                        &span, at: region.geometry.offset(of: pages.lowerBound), of: block)
                }
            } catch {
                core.account.withLock { $0.progress.providerErrors += 1 }
                return .failed(error.description)
            }
        }
        core.held?(.contentRead(first))
        let delivery = Delivery(
            region: region, block: block, pages: pages, bytes: bytes, isUrgent: isUrgent)
        return place(delivery, content)
    }

    private struct Delivery {
        let region: ServedRegion
        let block: BlockIndex
        let pages: Range<HostPageIndex>
        let bytes: Int
        let isUrgent: Bool

        var pageCount: Int { pages.upperBound.rawValue - pages.lowerBound.rawValue }
    }

    /// Places what was read, as far as it still holds.
    private func place(_ delivery: Delivery, _ content: PageContent) -> Outcome {
        var usesZeroPage = content == .zeros && delivery.region.hasZeroPage
        if content == .zeros, !usesZeroPage {
            staging.clear(at: 0, lengthBytes: delivery.bytes)
        }
        var (done, rounds) = (0, 0)
        while true {
            let step = core.gates.placing(gate) {
                placeOnce(delivery, content, from: done, usesZeroPage: usesZeroPage)
            }
            switch step {
            case .over: return .over
            case .placed(let bytes):
                done += bytes
                if done == delivery.bytes { return .done }
                core.held?(.interrupted(first(of: delivery)))
                if !awaitEvents(rounds) { return .over }
                rounds += 1
            case .refused(.invalidArgument) where usesZeroPage:
                // Memory of small pages for which the kernel has no page of zeros all the same.
                staging.clear(at: 0, lengthBytes: delivery.bytes)
                usesZeroPage = false
            case .refused(let error): return outcome(of: error, delivery)
            }
        }
    }

    private enum Step {
        case placed(Int)
        case refused(Errno)
        case over
    }

    /// Behind the gate: what is known of the pages holds until they are placed.
    private func placeOnce(
        _ delivery: Delivery, _ content: PageContent, from done: Int, usesZeroPage: Bool
    ) -> Step {
        guard !core.isEnding else { return .over }
        let (region, pages, block) = (delivery.region, delivery.pages, delivery.block)
        let removed = core.ledger.removedBytes(in: pages, of: block)
        let offset = RAMOffset(
            rawValue: region.geometry.offset(of: pages.lowerBound).rawValue + UInt64(done))
        let isZero = content == .zeros || removed.isOne(0..<delivery.bytes)
        core.held?(.placing(first(of: delivery)))
        let placement: Placement
        do throws(Errno) {
            if usesZeroPage {
                placement = try core.memory.uffd.placeZeros(
                    lengthBytes: delivery.bytes - done, at: offset, of: region,
                    yieldsToEvents: true)
            } else {
                for bytes in removed {
                    staging.clear(at: bytes.lowerBound, lengthBytes: bytes.count)
                }
                placement = try core.memory.uffd.place(
                    staging, from: done, lengthBytes: delivery.bytes - done, at: offset,
                    of: region, yieldsToEvents: true)
            }
        } catch { return .refused(error) }
        let bytes = placement.bytesDone(in: region)
        note(delivery, upTo: done + bytes, placement, isZero: isZero)
        return .placed(bytes)
    }

    /// Accounts for whole host pages once the last byte of the delivery is there.
    private func note(
        _ delivery: Delivery, upTo done: Int, _ placement: Placement, isZero: Bool
    ) {
        let isWhole = done == delivery.bytes
        if isWhole {
            core.ledger.settle(delivery.pages, of: delivery.block)
            core.ledger.clearDoubt(delivery.pages, of: delivery.block)
        }
        let count = UInt64(delivery.pageCount)
        let now = Monotonic.now()
        core.account.withLock { account in
            account.progress.alreadyPresentPages += UInt64(placement.alreadyPresentPages)
            if placement.isInterrupted { account.progress.interruptedPlacings += 1 }
            guard isWhole else { return }
            if delivery.isUrgent {
                account.progress.urgentPages += count
            } else {
                account.progress.backgroundPages += count
            }
            if isZero { account.progress.zeroPages += count }
            account.close(delivery.pages, of: delivery.block, at: now)
        }
    }

    private func first(of delivery: Delivery) -> HostPage {
        HostPage(block: delivery.block, page: delivery.pages.lowerBound)
    }

    /// The first pauses while a placing is interrupted, doubled up to the last: whoever gives up pages
    /// needs to run once after its event was read, and may have to wait for a core.
    private static let pauseNanosecondsMin: UInt64 = 10_000
    private static let pauseNanosecondsMax: UInt64 = 1_000_000

    /// Reads the events for which the kernel refuses to place: every other thread may be waiting for the
    /// same. `false` when the handler ends.
    private func awaitEvents(_ rounds: Int) -> Bool {
        if core.takeEvents() { core.desk.callAnother() }
        guard rounds > 0 else { return !core.isEnding }
        let pause = min(
            Self.pauseNanosecondsMin << UInt64(min(rounds, 10)), Self.pauseNanosecondsMax)
        if core.ending.wait(timeoutNanoseconds: pause) { return false }
        guard core.memory.isOwnerGone else { return true }
        core.fail(.ownerGone)
        return false
    }

    private func outcome(of error: Errno, _ delivery: Delivery) -> Outcome {
        // Kernels before 4.13 say of a process that is gone that there is no space.
        if error == .noSuchProcess || error == .noSpace && core.memory.isOwnerGone {
            core.fail(.ownerGone)
            return .over
        }
        // The kernel takes whole pages of the memory's own kind only.
        if error == .invalidArgument, core.memory.isForeign {
            let geometry = delivery.region.geometry
            core.fail(.otherPages(block: geometry.name, pageBytes: geometry.hostPage.bytes))
            return .over
        }
        // Unmapped meanwhile: whoever waits finds that out once it is woken, or comes back here. Pages that
        // nobody waits for may lie in two mappings, which the kernel refuses as a whole.
        if error == .noEntry, delivery.isUrgent, core.ledger.isNewDoubt(first(of: delivery)) {
            core.wake(first(of: delivery))
            return .done
        }
        return .failed(
            error == .noMemory || error == .noSpace
                ? "the kernel has no memory for it: \(error); free some, or raise the limit of its "
                    + "control group or file system"
                : "placing it: \(error)")
    }

    /// Gives up on a page that somebody waits for.
    func lose(_ page: HostPage, _ problem: String) {
        let region = core.memory.regions[page.block.rawValue]
        let next = HostPageIndex(rawValue: page.page.rawValue + 1)
        let delivery = Delivery(
            region: region, block: page.block, pages: page.page..<next,
            bytes: region.pageBytes(), isUrgent: true)
        var outcome = LostPage.Outcome.waits
        if poison(delivery) {
            outcome = .poisoned
        } else if core.ledger.isRemoved(page) {
            if case .done = place(delivery, .zeros) { return }
        } else if core.options.unservablePage == .zeros {
            if case .done = place(delivery, .zeros) { outcome = .zeros }
        }
        if outcome == .waits, core.isEnding { return }
        let address = HostAddress(
            rawValue: region.address.rawValue + region.geometry.offset(of: page.page).rawValue)
        core.lose(page, at: address, problem, outcome)
    }

    /// Makes a page one whose content is lost; `false` where the kernel has no such thing.
    private func poison(_ delivery: Delivery) -> Bool {
        var rounds = 0
        while true {
            let placement = core.gates.placing(gate) { () -> Placement? in
                guard !core.isEnding, !core.ledger.isRemoved(first(of: delivery)) else {
                    return nil
                }
                let placement = try? core.memory.uffd.poison(
                    delivery.pages, of: delivery.region, yieldsToEvents: true)
                if placement?.isInterrupted == false {
                    core.ledger.settle(delivery.pages, of: delivery.block)
                }
                return placement
            }
            guard let placement else { return false }
            guard placement.isInterrupted else { return true }
            guard awaitEvents(rounds) else { return false }
            rounds += 1
        }
    }
}

extension [Range<Int>] {
    fileprivate func isOne(_ range: Range<Int>) -> Bool { count == 1 && self[0] == range }
}
