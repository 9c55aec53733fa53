internal import LinuxKernel
internal import PageModel
internal import Synchronization

extension FaultCore {
    /// How long one who gives up pages may take to go on once that was read: it needs to run once. After
    /// that its process is stopped or starved, and goes on by itself later.
    private static let lastEventsNanoseconds: UInt64 = 1_000_000_000
    /// Between two looks whether it has gone on.
    private static let lookNanoseconds: UInt64 = 200_000
    /// Refusals for want of a mapping, after which the rest is left as it is: as many as a tenth of a second
    /// has room for. Holes that nobody was told of are few.
    private static let holesMax = 1 << 16

    /// Ends the service: nothing is placed any more, and whoever waits goes on, but for another process
    /// where nothing can say that its pages are lost. Once; answers whether this call did it.
    @discardableResult
    func leave(becauseOf error: FaultHandlerError? = nil) -> Bool {
        guard !desk.isEnding.exchange(true, ordering: .acquiringAndReleasing) else { return false }
        ending.raise()
        if let error { account.withLock { $0.progress.state = .ended(error) } }
        // Whoever is placing has done so, and everybody else sees that it is over.
        gates.closed {}
        guard error != .ownerGone, memory.isServed else { return true }
        var outcome = LostPage.Outcome.zeros
        if (options.missingAtStop ?? (memory.isForeign ? .lost : .zeros)) == .lost {
            outcome = poisonMissing() ? .poisoned : memory.isForeign ? .waits : .zeros
        }
        account.withLock { $0.missingAtStop = outcome }
        // A process that waits is safer than one that takes zeros for its content.
        if outcome != .waits { memory.unregister() }
        takeLastEvents()
        memory.giveBack()
        return true
    }

    /// `false` where the kernel has no such thing, or cannot do it now.
    private func poisonMissing() -> Bool {
        let deadline = Monotonic.now() + Self.lastEventsNanoseconds
        var holes = 0
        for (index, region) in memory.regions.enumerated() {
            let block = BlockIndex(rawValue: index)
            var next = region.pages.lowerBound
            var countMax = region.pageCount
            while let pages = nextToLose(from: next, of: block, countMax: countMax) {
                do throws(Errno) {
                    let done = try memory.uffd.poison(pages, of: region, yieldsToEvents: true)
                    let bytes = done.bytesDone(in: region)
                    next = HostPageIndex(
                        rawValue: pages.lowerBound.rawValue
                            + bytes >> region.geometry.hostPage.shift)
                    countMax = min(2 * countMax, region.pageCount)
                    guard done.isInterrupted else { continue }
                    // Some of these pages may be given up just now.
                    readRemovals()
                    guard Monotonic.now() < deadline, !memory.isOwnerGone else { return false }
                    pause()
                } catch {
                    // Nobody finds anything where nothing is mapped; there may be something beside it.
                    holes += 1
                    guard error == .noEntry, holes < Self.holesMax else { return false }
                    let count = pages.upperBound.rawValue - pages.lowerBound.rawValue
                    next = count > 1 ? pages.lowerBound : pages.upperBound
                    countMax = max(1, count / 2)
                }
            }
        }
        return true
    }

    /// The next pages at or after `start` that are to be lost, at most so many. Of memory whose pages may
    /// go without notice it is known to nobody which are there: the kernel leaves those alone.
    private func nextToLose(
        from start: HostPageIndex, of block: BlockIndex, countMax: Int
    ) -> Range<HostPageIndex>? {
        let end = memory.regions[block.rawValue].pages.upperBound
        guard start < end else { return nil }
        guard memory.isForeign || options.removedPagesAreZero else {
            return start..<min(end, HostPageIndex(rawValue: start.rawValue + countMax))
        }
        return ledger.nextMissing(from: start, of: block, countMax: countMax)
    }

    /// Whoever gives up pages waits until that was read: nobody does once the threads have ended. No
    /// new event can come of memory that is not registered.
    private func takeLastEvents() {
        let deadline = Monotonic.now() + Self.lastEventsNanoseconds
        readRemovals()
        while memory.hasEventsUnderWay, Monotonic.now() < deadline {
            pause()
            readRemovals()
        }
    }

    private func pause() {
        Monotonic.sleep(untilNanoseconds: Monotonic.now() + Self.lookNanoseconds)
    }

    /// Reads all events, and notes what was given up.
    private func readRemovals() {
        var (count, removed) = (0, 0)
        repeat {
            let read = try? memory.uffd.readEveryEvent { event in
                switch event {
                case .removed(let range), .unmapped(let range):
                    for (block, bytes) in memory.parts(of: range) {
                        removed += ledger.remove(bytes, of: block)
                    }
                default: break
                }
            }
            count = read ?? 0
        } while count == Userfaultfd.eventsPerRead
        guard removed > 0 else { return }
        account.withLock { $0.progress.removedPages += UInt64(removed) }
    }
}
