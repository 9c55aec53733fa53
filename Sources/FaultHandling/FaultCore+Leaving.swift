internal import LinuxKernel
internal import PageModel
internal import Synchronization

extension FaultCore {
    /// How long one who gives up pages may take to go on once that was read: it needs to run once. After
    /// that its process is stopped or starved, and goes on by itself later.
    private static let lastEventsNanoseconds: UInt64 = 1_000_000_000

    /// Ends the service: nothing is placed any more, and whoever waits goes on. Once; answers whether this
    /// call did it.
    @discardableResult
    func leave(becauseOf error: FaultHandlerError? = nil) -> Bool {
        guard !desk.isEnding.exchange(true, ordering: .acquiringAndReleasing) else { return false }
        ending.raise()
        if let error { account.withLock { $0.progress.state = .ended(error) } }
        // Whoever is placing has done so, and everybody else sees that it is over.
        gates.closed {}
        if error != .ownerGone {
            let missing = options.missingAtStop ?? (memory.isForeign ? .lost : .zeros)
            if missing == .lost { poisonMissing() }
            memory.unregister()
            takeLastEvents()
        }
        return true
    }

    private func poisonMissing() {
        for (index, region) in memory.regions.enumerated() {
            let block = BlockIndex(rawValue: index)
            var next = region.pages.lowerBound
            while next < region.pages.upperBound,
                let run = ledger.nextMissing(from: next, of: block)
            {
                guard poison(run, of: region) else { return }
                next = run.upperBound
            }
        }
    }

    /// `false` where the kernel has no such thing, or the memory is gone.
    private func poison(_ run: Range<HostPageIndex>, of region: ServedRegion) -> Bool {
        var first = run.lowerBound
        while first < run.upperBound {
            guard
                let done = try? memory.uffd.poison(
                    first..<run.upperBound, of: region, yieldsToEvents: true)
            else { return false }
            let bytes = done.bytesDone(in: region)
            first = HostPageIndex(
                rawValue: first.rawValue + bytes >> region.geometry.hostPage.shift)
            if done.isInterrupted {
                readRemovals()
                if memory.isOwnerGone { return false }
            }
        }
        return true
    }

    /// Whoever gives up pages waits until that was read: nobody does once the threads have ended. No
    /// new event can come of memory that is not registered.
    private func takeLastEvents() {
        let deadline = Monotonic.now() + Self.lastEventsNanoseconds
        repeat { readRemovals() } while memory.hasEventsUnderWay && Monotonic.now() < deadline
    }

    private func readRemovals() {
        while let count = try? memory.uffd.readEveryEvent({ _ in }),
            count == Userfaultfd.eventsPerRead
        {}
    }
}
