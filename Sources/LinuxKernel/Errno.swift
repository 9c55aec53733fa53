internal import Glibc

/// A refusal of the kernel.
public struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kernel's number, positive.
    public let rawValue: Int32

    /// The error with this number, which may be any.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// `EAGAIN`: not now, or no room for more.
    public static let again = Errno(rawValue: EAGAIN)
    /// `EPIPE`: nobody reads what is written.
    public static let brokenPipe = Errno(rawValue: EPIPE)
    /// `ECONNREFUSED`: nobody listens there.
    public static let connectionRefused = Errno(rawValue: ECONNREFUSED)
    /// `ECONNRESET`: the other side has dropped the connection.
    public static let connectionReset = Errno(rawValue: ECONNRESET)
    /// `EADDRINUSE`: somebody else listens there.
    public static let addressInUse = Errno(rawValue: EADDRINUSE)
    /// `EEXIST`: it is there already.
    public static let exists = Errno(rawValue: EEXIST)
    /// `EBUSY`: somebody else holds it.
    public static let busy = Errno(rawValue: EBUSY)
    /// `ENOMEM`: no memory, or no room for another mapping.
    public static let noMemory = Errno(rawValue: ENOMEM)
    /// `EPERM`: a privilege is missing.
    public static let notPermitted = Errno(rawValue: EPERM)
    /// `EACCES`: its permissions forbid it.
    public static let accessDenied = Errno(rawValue: EACCES)
    /// `ENOENT`: there is no such thing.
    public static let noEntry = Errno(rawValue: ENOENT)
    /// `ENOSYS`: the kernel, or a filter before it, has no such call.
    public static let noSystemCall = Errno(rawValue: ENOSYS)
    /// The device has no such ioctl.
    public static let noSuchControl = Errno(rawValue: ENOTTY)
    /// `ETIMEDOUT`: the other side did not answer in time.
    public static let timedOut = Errno(rawValue: ETIMEDOUT)
    /// `ETIME`: a timer ran out.
    public static let timerExpired = Errno(rawValue: ETIME)
    /// `ENXIO`: there is no such device or address.
    public static let noSuchAddress = Errno(rawValue: ENXIO)
    /// `ENOSPC`: the disk is full.
    public static let noSpace = Errno(rawValue: ENOSPC)
    /// `EDQUOT`: the user's share of the disk is used up.
    public static let overQuota = Errno(rawValue: EDQUOT)
    /// `ENAMETOOLONG`: a name is longer than it may be.
    public static let nameTooLong = Errno(rawValue: ENAMETOOLONG)
    /// `EINVAL`: the kernel takes no such value, or not for this.
    public static let invalidArgument = Errno(rawValue: EINVAL)
    /// `EMFILE`: the process may open no more descriptors.
    public static let tooManyFiles = Errno(rawValue: EMFILE)
    /// `ENFILE`: the host may open no more files.
    public static let fileTableFull = Errno(rawValue: ENFILE)
    /// `ENODEV`: nothing drives the device.
    public static let noSuchDevice = Errno(rawValue: ENODEV)
    /// The process is gone.
    public static let noSuchProcess = Errno(rawValue: ESRCH)

    /// The error that the C library left for the calling thread.
    static var last: Errno { Errno(rawValue: errno) }

    /// The text of `strerror`, for example "Connection refused".
    public var description: String {
        guard let text = unsafe strerror(rawValue) else { return "errno \(rawValue)" }
        return unsafe String(cString: text)
    }

    /// Turns a shim's answer into its value, or throws what a negative one means.
    @discardableResult
    static func check<Value: BinaryInteger>(_ answer: Value) throws(Errno) -> Value {
        guard answer >= 0 else { throw Errno(rawValue: Int32(truncatingIfNeeded: 0 - answer)) }
        return answer
    }
}
