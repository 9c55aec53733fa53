internal import LinuxKernel
internal import Synchronization

/// One thread of a handler, which must be joined or let go.
final class HandlerThread: Sendable {
    private let thread: Mutex<JoinableThread<Void>?>

    private init(
        _ name: String, of core: FaultCore, _ body: @escaping @Sendable (FaultCore) -> Void
    ) throws(Errno) {
        thread = Mutex(
            try JoinableThread(name: name) {
                core.desk.threads.withLock { _ = $0.insert(currentThreadID()) }
                body(core)
                core.desk.threads.withLock { _ = $0.remove(currentThreadID()) }
            })
    }

    /// The workers and the background's threads. When one cannot be started, the others have ended.
    static func all(of core: FaultCore) throws(Errno) -> [HandlerThread] {
        var threads: [HandlerThread] = []
        do throws(Errno) {
            for number in 0..<core.options.workers {
                threads.append(
                    try HandlerThread("fault-\(number)", of: core) { core in
                        var worker = FaultWorker(core, number: number)
                        worker.run()
                    })
            }
            for index in 0..<core.options.backgroundThreads {
                threads.append(
                    try HandlerThread("fault-fill-\(index)", of: core) { core in
                        var filler = BackgroundFiller(core, gate: core.options.workers + index)
                        filler.run()
                    })
            }
        } catch {
            core.desk.isEnding.store(true, ordering: .releasing)
            core.ending.raise()
            for thread in threads { thread.join() }
            core.desk.isEnding.store(false, ordering: .releasing)
            core.ending.clear()
            throw error
        }
        return threads
    }

    func join() {
        let taken = thread.withLock { $0.take() }
        taken?.join()
    }

    /// Lets the thread end by itself.
    func detach() {
        let taken = thread.withLock { $0.take() }
        taken?.detach()
    }
}
