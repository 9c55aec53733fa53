import LinuxKernel
import Synchronization

/// One number that a thread leaves for another.
final class Mailbox: Sendable {
    private let number = Atomic<Int32>(0)

    // Releasing and acquiring: who sees the number sees what was written before it.
    func put(_ value: Int32) { number.store(value, ordering: .releasing) }
    var value: Int32 { number.load(ordering: .acquiring) }
}

/// Lets a noncopyable thread stand in an array.
final class Joined<Output: Sendable> {
    private var thread: JoinableThread<Output>?

    init(_ thread: consuming JoinableThread<Output>) { self.thread = consume thread }

    func join() -> Output {
        guard let thread = thread.take() else { fatalError("joined twice") }
        return thread.join()
    }
}
