internal import LinuxKernel
internal import StreamWire
internal import Synchronization

/// What a destination keeps for links that break: who may come back, how it stands, and what the user
/// wishes.
final class DestinationRecovery: Sendable {
    let token = MigrationToken.random()
    /// Whether the source asked for extensions in a version that has recovery.
    let isAsked = Atomic(false)
    /// Whether the source may stop its guest at any moment: it waits for the answer to PING 2 before.
    let isSwitchNear = Atomic(false)
    /// Whether a paused guest that never ran was given up by `cancel`.
    let isGivenUp = Atomic(false)
    /// Whether the first page of a link is still to come.
    private let awaitsPage = Atomic(false)
    private let progress = Mutex(RecoveryProgress())
    private let wishes = Mutex(DestinationWishes())

    /// What a PING is answered with.
    func answer(toPing value: UInt32) -> ReturnPathMessage {
        if value == PingValue.beforePackage.rawValue {
            isSwitchNear.store(true, ordering: .releasing)
        }
        guard let version = Extensions.version(askedBy: value) else { return .pong(value) }
        if Extensions.offersRecovery(askedBy: value) { isAsked.store(true, ordering: .releasing) }
        return .extensions(
            ExtensionOffer(
                version: Extensions.version, extensions: .ours(forVersion: version), token: token))
    }

    var current: RecoveryProgress { progress.withLock { $0 } }

    func update(_ change: (inout RecoveryProgress) -> Void) { progress.withLock { change(&$0) } }

    /// Notes that pages may flow again.
    func noteResumed() {
        updateLast { $0.resumedAtNanoseconds = Monotonic.now() }
        update { $0.missing = [] }
        awaitsPage.store(true, ordering: .relaxed)
    }

    func updateLast(_ change: (inout LinkBreak) -> Void) {
        update { progress in
            guard let last = progress.breaks.indices.last else { return }
            change(&progress.breaks[last])
        }
    }

    /// Called for every placing: only the first one of a link has anything to say.
    func notePage(at instant: UInt64) {
        guard awaitsPage.load(ordering: .relaxed), awaitsPage.exchange(false, ordering: .relaxed)
        else { return }
        updateLast { $0.firstPageAtNanoseconds = instant }
    }

    func wish(_ change: (inout DestinationWishes) -> Void) { wishes.withLock { change(&$0) } }

    /// Takes what was wished since this was last asked.
    func takeWishes() -> DestinationWishes {
        wishes.withLock { wishes in
            var taken = DestinationWishes()
            swap(&wishes, &taken)
            return taken
        }
    }
}

/// What the user asks of a migration whose guest has moved.
struct DestinationWishes: ~Copyable, Sendable {
    var pauses = false
    var recovers = false
    var abandons = false
    /// Where the source will come from now on.
    var listener: Listener?
}
