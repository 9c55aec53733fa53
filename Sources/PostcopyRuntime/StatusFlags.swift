package import LinuxKernel
package import MigrationCore
internal import Synchronization

/// Those who want to know at once that a migration has entered a status: each has a flag raised.
package final class StatusFlags: Sendable {
    private let flags = Mutex<[EventFlag]>([])

    init() {}

    package func add(_ flag: EventFlag) { flags.withLock { $0.append(flag) } }

    package func remove(_ flag: EventFlag) { flags.withLock { $0.removeAll { $0 === flag } } }

    func raise() {
        for flag in flags.withLock({ $0 }) { flag.raise() }
    }
}

/// What both sides' progress has.
package protocol SideProgress: Sendable {
    var status: MigrationStatus { get set }
}

extension SourceProgress: SideProgress {}

extension DestinationProgress: SideProgress {}

/// What the sessions of both sides tell those who look on.
package protocol ObservedSession: AnyObject, Sendable {
    associatedtype Progress: SideProgress

    var progress: Progress { get }
    var statusFlags: StatusFlags { get }

    /// The statuses that were entered behind the first `count` ones, in order, and how many there are
    /// now in all.
    func statusChanges(after count: Int) -> (changes: [StatusChange], count: Int)

    /// The RAM blocks that the migration moves. It keeps them mapped as long as it exists.
    var memory: [GuestRAM] { get }

    /// Whether the guest still has them.
    var hasSameMemory: Bool { get }

    /// Calls `body` once the guest is called no more for this migration, which has ended: at once, or
    /// on another thread behind a `Guest.pause` that has not returned.
    func whenGuestIsLeft(_ body: @escaping @Sendable () -> Void)
}

extension SourceSession: ObservedSession {
    package var memory: [GuestRAM] { state.blocks }
    package var hasSameMemory: Bool { state.hasSameMemory }

    package func whenGuestIsLeft(_ body: @escaping @Sendable () -> Void) {
        guard let stop = state.guestStop.withLock({ $0 }) else { return body() }
        stop.whenLeft(body)
    }
}

extension DestinationSession: ObservedSession {
    package var memory: [GuestRAM] { state.blocks }
    package var hasSameMemory: Bool { state.guest.memory.elementsEqual(state.blocks, by: ===) }
    package var statusFlags: StatusFlags { state.statusFlags }

    /// It is the source that stops a guest.
    package func whenGuestIsLeft(_ body: @escaping @Sendable () -> Void) { body() }

    package func statusChanges(after count: Int) -> (changes: [StatusChange], count: Int) {
        let log = state.log
        return (log.changes(after: count), log.changeCount)
    }
}
