internal import CShims
internal import Glibc

/// Waits for descriptors in several threads at once (`epoll`): what comes wakes one of them, and whoever
/// is free takes it.
public struct SharedPoller: ~Copyable, Sendable {
    private let set: FileDescriptor

    /// One that watches nothing yet.
    public init() throws(Errno) {
        set = FileDescriptor(owning: try Errno.check(pc_wait_create()))
    }

    /// Tells one waiter each time that something comes. It must then take all that is there: what it
    /// leaves is told to nobody.
    public func watch(_ uffd: borrowing Userfaultfd, as tag: UInt32) throws(Errno) {
        try Errno.check(pc_wait_add(set.raw, uffd.descriptor.raw, tag, 0))
    }

    /// Tells one waiter each time that the flag is raised, whether or not anybody lowers it.
    public func watchRaises(of flag: EventFlag, as tag: UInt32) throws(Errno) {
        try Errno.check(pc_wait_add(set.raw, flag.descriptor.raw, tag, 0))
    }

    /// Tells one waiter each time that the alarm goes off.
    public func watch(_ alarm: AlarmFlag, as tag: UInt32) throws(Errno) {
        try Errno.check(pc_wait_add(set.raw, alarm.descriptor.raw, tag, 0))
    }

    /// Tells every waiter, for as long as the flag is raised.
    public func watch(_ flag: EventFlag, as tag: UInt32) throws(Errno) {
        try Errno.check(pc_wait_add(set.raw, flag.descriptor.raw, tag, 1))
    }

    /// Answers the tag of something that came; `nil` when the time (`.max`: no limit) ran out, to the
    /// millisecond above, or a signal was handled.
    public func wait(timeoutNanoseconds: UInt64) -> UInt32? {
        var tag: UInt32 = 0
        let milliseconds =
            timeoutNanoseconds == .max
            ? -1 : Int32(clamping: timeoutNanoseconds / 1_000_000 + 1)
        return unsafe pc_wait_next(set.raw, milliseconds, &tag) > 0 ? tag : nil
    }
}

/// A flag that goes off once after a while (`timerfd`). Any thread sets it.
public final class AlarmFlag: Sendable {
    let descriptor: FileDescriptor

    /// One that watches nothing yet.
    public init() throws(Errno) {
        descriptor = FileDescriptor(owning: try Errno.check(pc_timer_create()))
    }

    /// Lets it go off in a while, and forgets what it was set to before.
    public func set(afterNanoseconds delay: UInt64) {
        _ = pc_timer_set(descriptor.raw, max(1, delay))
    }
}
