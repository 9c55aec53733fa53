internal import CShims

/// An io_uring of which one thread is the owner.
///
/// A slot names an operation from the time it is queued until its completion was reaped; meanwhile its
/// buffer belongs to the kernel.
@safe
public struct Ring: ~Copyable {
    // SAFETY: `ring` is created once and destroyed in `deinit`; liburing is used by one thread.
    private let ring: OpaquePointer

    /// One completed operation; slot and outcome stay together.
    public struct Completion: Equatable, Sendable {
        /// Which entry has completed.
        public let slot: UInt64
        /// Bytes, or ready events for a poll.
        public let result: Result<Int, Errno>
    }

    /// - Throws: `ENOSYS` or `EPERM` where io_uring is missing or disabled
    ///   (`sysctl kernel.io_uring_disabled`), `ENOMEM` beyond the locked-memory limit.
    public init(entries: UInt32) throws(Errno) {
        var created: OpaquePointer? = nil
        try Errno.check(unsafe pc_ring_create(entries, &created))
        guard let created = unsafe created else { throw .noMemory }
        unsafe ring = created
    }

    deinit { unsafe pc_ring_destroy(ring) }

    /// Completes when `flag` is raised.
    /// - Throws: `EBUSY` when the submission queue is full: submit first.
    public func poll(_ flag: EventFlag, slot: UInt64) throws(Errno) {
        try Errno.check(unsafe pc_ring_poll(ring, flag.descriptor.raw, 1, slot))
    }

    /// Completes when `uffd` has events to read.
    public func poll(_ uffd: borrowing Userfaultfd, slot: UInt64) throws(Errno) {
        try Errno.check(unsafe pc_ring_poll(ring, uffd.descriptor.raw, 1, slot))
    }

    /// Completes when `socket` has bytes to receive.
    public func poll(_ socket: borrowing StreamSocket, slot: UInt64) throws(Errno) {
        try Errno.check(unsafe pc_ring_poll(ring, socket.descriptor.raw, 1, slot))
    }

    /// Asks the kernel to end the operation of `target`; both complete.
    public func cancel(_ target: UInt64, slot: UInt64) throws(Errno) {
        try Errno.check(unsafe pc_ring_cancel(ring, target, slot))
    }

    /// Submits what is queued and waits for `waitCount` completions.
    /// - Throws: `ETIME` when `timeoutNanoseconds` (0: no limit) ran out first.
    public func submit(waitCount: UInt32, timeoutNanoseconds: UInt64) throws(Errno) {
        try Errno.check(unsafe pc_ring_submit(ring, waitCount, timeoutNanoseconds))
    }

    /// Takes the completions that are there, at most 16 at once, and hands each to `body`.
    public func reap(_ body: (Completion) -> Void) -> Int {
        let capacity: UInt32 = 16
        return unsafe withUnsafeTemporaryAllocation(
            of: pc_completion.self, capacity: Int(capacity)
        ) { taken in
            let count = unsafe pc_ring_reap(ring, taken.baseAddress, capacity)
            for index in 0..<Int(count) {
                let one = unsafe taken[index]
                let result: Result<Int, Errno> =
                    one.result >= 0
                    ? .success(Int(one.result)) : .failure(Errno(rawValue: -one.result))
                body(Completion(slot: one.slot, result: result))
            }
            return Int(count)
        }
    }
}
