internal import Glibc

/// A refusal of the kernel.
public struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let again = Errno(rawValue: EAGAIN)
    public static let brokenPipe = Errno(rawValue: EPIPE)
    public static let connectionRefused = Errno(rawValue: ECONNREFUSED)
    public static let connectionReset = Errno(rawValue: ECONNRESET)
    public static let addressInUse = Errno(rawValue: EADDRINUSE)
    public static let exists = Errno(rawValue: EEXIST)
    public static let busy = Errno(rawValue: EBUSY)
    public static let noMemory = Errno(rawValue: ENOMEM)
    public static let notPermitted = Errno(rawValue: EPERM)
    public static let accessDenied = Errno(rawValue: EACCES)
    public static let noEntry = Errno(rawValue: ENOENT)
    public static let noSystemCall = Errno(rawValue: ENOSYS)
    /// The device has no such ioctl.
    public static let noSuchControl = Errno(rawValue: ENOTTY)
    public static let timedOut = Errno(rawValue: ETIMEDOUT)
    public static let timerExpired = Errno(rawValue: ETIME)
    public static let noSuchAddress = Errno(rawValue: ENXIO)
    public static let noSpace = Errno(rawValue: ENOSPC)
    public static let overQuota = Errno(rawValue: EDQUOT)
    public static let nameTooLong = Errno(rawValue: ENAMETOOLONG)
    public static let invalidArgument = Errno(rawValue: EINVAL)

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
