internal import CShims
internal import Glibc

/// Waits for several descriptors at once (`ppoll`). One thread owns a poller.
public struct Poller {
    private var entries: [pollfd] = []

    /// Room for so many descriptors; it grows for more.
    public init(capacity: Int) { entries.reserveCapacity(capacity) }

    /// Each `watch` answers the place to ask `isReady` about.
    @discardableResult
    public mutating func watch(_ flag: EventFlag) -> Int { watchReadable(flag.descriptor.raw) }

    /// Waits for this one too; answers its place for `isReady`.
    @discardableResult
    public mutating func watch(_ socket: borrowing StreamSocket) -> Int {
        watchReadable(socket.descriptor.raw)
    }

    /// Waits for this one too; answers its place for `isReady`.
    @discardableResult
    public mutating func watch(_ listener: borrowing Listener) -> Int {
        watchReadable(listener.descriptor.raw)
    }

    /// Waits for this one too; answers its place for `isReady`.
    @discardableResult
    public mutating func watch(_ uffd: borrowing Userfaultfd) -> Int {
        watchReadable(uffd.descriptor.raw)
    }

    /// Watches for room to send; an end or an error makes it ready too.
    @discardableResult
    public mutating func watchRoom(in socket: borrowing StreamSocket) -> Int {
        watch(socket.descriptor.raw, for: POLLOUT)
    }

    /// Answers how many descriptors are ready: 0 when the time (`.max`: no limit) ran out.
    public mutating func wait(timeoutNanoseconds: UInt64) -> Int {
        let start = Monotonic.now()
        var left = timeoutNanoseconds
        while true {
            let ready = unsafe entries.withUnsafeMutableBufferPointer { buffer in
                unsafe pc_poll(buffer.baseAddress, UInt32(buffer.count), left)
            }
            if ready >= 0 { return Int(ready) }
            // A signal that a handler took is no reason to report anything.
            guard ready == -EINTR else { return 0 }
            let passed = Monotonic.now() - start
            if left != .max { left = timeoutNanoseconds - min(timeoutNanoseconds, passed) }
        }
    }

    /// Whether the last `wait` found there what was watched for, an end or an error.
    public func isReady(_ place: Int) -> Bool { entries[place].revents != 0 }

    /// Whether it found something to read there, and neither an end nor an error.
    public func isReadable(_ place: Int) -> Bool { entries[place].revents == Int16(POLLIN) }

    mutating func watchReadable(_ raw: Int32) -> Int { watch(raw, for: POLLIN) }

    private mutating func watch(_ raw: Int32, for events: Int32) -> Int {
        entries.append(pollfd(fd: raw, events: Int16(events), revents: 0))
        return entries.count - 1
    }
}
