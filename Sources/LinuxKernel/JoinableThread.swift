internal import CShims
internal import Glibc

/// The kernel's id of the calling thread.
public func currentThreadID() -> Int32 { pc_thread_id() }

/// Asks for short time slices: the calling thread runs soon after it is woken even while others
/// compute, and while it computes itself others that are woken wait for it only briefly. A kernel
/// before 6.12 refuses; then nothing changes.
public func preferShortSlices() { _ = pc_thread_set_slice(shortSliceNanoseconds) }

/// The shortest slice that the kernel grants.
private let shortSliceNanoseconds: UInt64 = 100_000

/// A thread that must be joined, and gives its result back by that, or let go. Signals go to other
/// threads.
public struct JoinableThread<Output: Sendable>: ~Copyable, Sendable {
    private let handle: ThreadHandle
    private let work: Work

    /// What the thread runs and leaves behind.
    private final class Work: @unchecked Sendable {
        // SAFETY: `output` is written by the thread and read only after `pthread_join`.
        let name: String
        let body: @Sendable () -> Output
        var output: Output?

        init(name: String, body: @escaping @Sendable () -> Output) {
            self.name = name
            self.body = body
        }

        func run() {
            _ = pc_thread_block_signals()
            _ = unsafe pc_thread_set_name(name)
            output = body()
        }
    }

    /// Starts `body` on a thread of its own; the kernel keeps 15 bytes of `name`.
    /// - Throws: `EAGAIN` when the process may have no more threads.
    public init(name: String, _ body: @escaping @Sendable () -> Output) throws(Errno) {
        work = Work(name: name, body: body)
        let retained = unsafe Unmanaged.passRetained(JoinableThreadEntry(work.run)).toOpaque()
        var created = pthread_t()
        let status = unsafe pthread_create(
            &created, nil,
            { argument in
                let entry = unsafe Unmanaged<JoinableThreadEntry>.fromOpaque(argument!)
                unsafe entry.takeRetainedValue().run()
                return nil
            }, retained)
        guard status == 0 else {
            unsafe Unmanaged<JoinableThreadEntry>.fromOpaque(retained).release()
            throw Errno(rawValue: status)
        }
        handle = ThreadHandle(raw: created)
    }

    /// Waits for the end of the thread.
    public consuming func join() -> Output {
        let work = work
        handle.join()
        guard let output = work.output else { fatalError("thread \(work.name) left no output") }
        return output
    }

    /// Lets the thread end by itself; what it leaves is lost.
    public consuming func detach() { handle.detach() }
}

/// The leaf that insists on being joined. Not nested and not private: a client that keeps an optional
/// thread then breaks the optimizer of Swift 6.3.1 ("Global is external").
struct ThreadHandle: ~Copyable, Sendable {
    let raw: pthread_t

    deinit { trapOnUnjoinedThread() }

    consuming func join() {
        let raw = raw
        discard self
        _ = pthread_join(raw, nil)
    }

    consuming func detach() {
        let raw = raw
        discard self
        _ = pthread_detach(raw)
    }
}

/// What `pthread_create` carries: it knows nothing of the output's type.
private final class JoinableThreadEntry {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}

private func trapOnUnjoinedThread() { fatalError("a JoinableThread was dropped without join()") }
