internal import Synchronization

/// Something that happens once, told from one thread to another.
final class Signpost: Sendable {
    private let value = Atomic(false)

    func raise() { value.store(true, ordering: .releasing) }

    var isRaised: Bool { value.load(ordering: .acquiring) }
}
