internal import Glibc

/// What stands behind a descriptor that a person may read.
public enum Terminal {
    /// The columns of the terminal behind `descriptor`, or `nil` when it is none or does not say.
    public static func columns(of descriptor: Int32) -> Int? {
        var size = winsize()
        guard unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return nil
        }
        return Int(size.ws_col)
    }
}
