internal import LinuxKernel
internal import Synchronization

/// Work on a thread of its own that a test waits for no longer than it should.
public final class Bounded<Output: Sendable>: Sendable {
    private let thread: Mutex<JoinableThread<Output>?>
    private let ended: EventFlag

    public init(_ name: String, _ body: @escaping @Sendable () -> Output) throws {
        let ended = try EventFlag()
        self.ended = ended
        thread = Mutex(
            try JoinableThread(name: name) {
                defer { ended.raise() }
                return body()
            })
        unjoined.withLock { $0[ObjectIdentifier(self)] = self }
    }

    /// The output, or `nil` when the work hangs; then its thread is left to itself.
    public func output(withinSeconds seconds: UInt64 = 20) -> Output? {
        guard ended.wait(timeoutNanoseconds: seconds * 1_000_000_000) else { return nil }
        unjoined.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(self)) }
        return thread.withLock { $0.take() }?.join()
    }
}

/// What hangs, or was forgotten by a test that failed, is kept: a thread must not be dropped without
/// `join`.
private let unjoined = Mutex<[ObjectIdentifier: any AnyObject & Sendable]>([:])

/// Carries what cannot be copied into a thread, once.
public final class Handover<Value: ~Copyable & Sendable>: Sendable {
    private let value: Mutex<Value?>

    public init(_ value: consuming Value) { self.value = Mutex(value) }

    public func take() -> Value {
        let taken = value.withLock { $0.take() }
        switch consume taken {
        case .some(let value): return value
        case .none: fatalError("what was handed over was taken before")
        }
    }
}
