internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// Whoever connected beside a link's main channel and was not yet found to be a stranger; once one is
/// known for the urgent channel, it alone. The fault thread owns them.
struct UrgentChannels {
    private let state: DestinationState
    private(set) var all: [UrgentChannel] = []
    private(set) var chosen: UrgentChannel?

    /// Strangers beyond these are turned away: a source opens one channel.
    static let countMax = 4

    init(state: DestinationState) { self.state = state }

    /// Takes whoever came on the link.
    mutating func take(_ talk: FaultThread.Talk) {
        let link: DestinationLink
        switch talk {
        case .alone, .broken: return
        case .recovering(let current), .open(let current): link = current
        }
        for urgent in link.takeArrived() where chosen == nil && all.count < Self.countMax {
            let channel = UrgentChannel(
                urgent.arrival, list: state.list, acceptsHeartbeats: urgent.isKnown)
            all.append(channel)
            if urgent.isKnown { choose(channel, on: link) }
        }
    }

    mutating func choose(_ channel: UrgentChannel, on link: DestinationLink?) {
        guard chosen == nil else { return }
        chosen = channel
        all = [channel]
        link?.hasUrgent.store(true, ordering: .releasing)
    }

    func contains(_ channel: UrgentChannel) -> Bool { all.contains { $0 === channel } }

    mutating func remove(_ channel: UrgentChannel) { all.removeAll { $0 === channel } }

    /// Closes all of them; nobody is chosen any more on this link.
    mutating func drop() { all = [] }
}

// Urgent pages in.
extension FaultThread {
    mutating func takeUrgentPages(from channel: UrgentChannel) throws(Trouble) {
        // It may have been dropped since it was found ready.
        guard channels.contains(channel) else { return }
        do throws(Trouble) {
            guard try !placeWhatCame(on: channel) else { return }
            let isComplete = state.demand.missing.load(ordering: .relaxed) == 0
            guard (channel.hasEnded && placer.isIdle) || isComplete || isGoneEarly(channel) else {
                throw Trouble(
                    event: state.urgentLoss, problem: "the source closed the urgent channel")
            }
        } catch {
            // The main channel holds: the source can be told, and so run its guest again. Whoever
            // brought no page yet is no part of this migration, and its end no trouble.
            if channels.chosen != nil || error.refusesSource { throw error }
        }
        channels.remove(channel)
    }

    /// Whether nothing was asked on it yet: what the main channel still brings decides whether the
    /// guest moves.
    private func isGoneEarly(_ channel: UrgentChannel) -> Bool {
        !channel.hasEnded && placer.isIdle && state.currentPhase.isBeforeSwitch
    }

    /// Places all that is there; `false` once the channel's end was read.
    private mutating func placeWhatCame(on channel: UrgentChannel) throws(Trouble) -> Bool {
        // What was read before it was known for what it is.
        if channel.hasUnread, try !placeRecords(of: channel) { return false }
        while true {
            let received: Int?
            do { received = try channel.fill() } catch {
                if isGoneEarly(channel) { return false }
                throw Trouble(
                    event: state.urgentLoss, problem: "the urgent channel failed: \(error)")
            }
            guard let received else { return true }
            state.counters.noteReceived(received)
            guard received > 0, try placeRecords(of: channel) else { return false }
        }
    }

    /// Places the pages that arrived whole; `false` once the channel's end was read.
    private mutating func placeRecords(of channel: UrgentChannel) throws(Trouble) -> Bool {
        while true {
            let step: UrgentChannel.Step
            do { step = try channel.next(into: &placer) } catch { throw trouble(error) }
            if case .needMoreBytes = step { return true }
            channels.choose(channel, on: talk.link)
            switch step {
            case .placed(let placed):
                state.counters.urgentTargetPages.add(1, ordering: .relaxed)
                state.settle(placed)
                close(placed, .urgent(firstByteAt: channel.heardAtNanoseconds))
            case .kept: state.counters.urgentTargetPages.add(1, ordering: .relaxed)
            case .needMoreBytes: break
            case .ended: return false
            }
        }
    }

    private func trouble(_ error: UrgentChannel.Trouble) -> Trouble {
        guard case .other(let other) = error else {
            return Trouble(event: .peerMisbehaved, problem: "the urgent channel: \(error)")
        }
        if other == .migration { state.counters.otherMigrations.add(1, ordering: .relaxed) }
        // Multifd channels are opened at the start. Later on it is a stranger who says so, and a guest
        // that may be moving is not stopped for one.
        return Trouble(
            event: .peerMisbehaved, problem: "\(error)",
            refusesSource: other == .multifd && state.currentPhase.isBeforeSwitch)
    }
}
