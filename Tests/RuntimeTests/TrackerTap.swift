import LinuxKernel
import PageModel
import PostcopyRuntime
import Synchronization

/// Stands before a tracker and calls the test between the first taking of pages and their sending.
final class TrackerTap: DirtyTracker {
    private let tracker = Mutex<(any DirtyTracker)?>(nil)
    private let hook = Mutex<(@Sendable () -> Void)?>(nil)

    func watching(_ tracker: any DirtyTracker) -> TrackerTap {
        self.tracker.withLock { $0 = tracker }
        return self
    }

    func onFirstClear(_ body: @escaping @Sendable () -> Void) { hook.withLock { $0 = body } }

    private var real: any DirtyTracker { tracker.withLock { $0 }! }

    func check() throws(TrackerRefusal) { try real.check() }
    func start() throws(TrackerRefusal) { try real.start() }

    func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int {
        try real.sync(block, into: dirty)
    }

    func clear(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        hook.withLock { $0.take() }?()
        try real.clear(block, pages)
    }

    func forget(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try real.forget(block, pages)
    }

    func stop() { real.stop() }
}
