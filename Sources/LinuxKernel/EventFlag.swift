internal import CShims
internal import Glibc

/// A flag that any thread raises and one thread waits for, alone or among other descriptors.
public final class EventFlag: Sendable {
    let descriptor: FileDescriptor

    /// A flag that is not raised.
    public init() throws(Errno) {
        descriptor = FileDescriptor(owning: try Errno.check(pc_eventfd()))
    }

    /// Raises the flag; raising twice is raising once.
    public func raise() { _ = pc_eventfd_raise(descriptor.raw) }

    /// Lowers the flag; answers whether it was raised.
    @discardableResult
    public func clear() -> Bool { pc_eventfd_clear(descriptor.raw) > 0 }

    /// Waits until the flag is raised and leaves it raised.
    public func wait() { _ = wait(timeoutNanoseconds: .max) }

    /// Waits until the flag is raised; answers `false` when the time ran out first.
    public func wait(timeoutNanoseconds: UInt64) -> Bool {
        var poller = Poller(capacity: 1)
        poller.watch(self)
        return poller.wait(timeoutNanoseconds: timeoutNanoseconds) > 0
    }
}
