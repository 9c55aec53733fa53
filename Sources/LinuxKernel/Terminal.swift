internal import Glibc

/// What stands behind a descriptor that a person may read.
public enum Terminal {
    /// The columns of the terminal behind `descriptor`, or `nil` when it is none or does not say.
    public static func columns(of descriptor: Int32) -> Int? { size(of: descriptor)?.columns }

    /// The columns and rows of the terminal behind `descriptor`, or `nil` when it is none or does not
    /// say how wide it is. One that does not say how high it is has `Int.max` rows.
    public static func size(of descriptor: Int32) -> (columns: Int, rows: Int)? {
        var size = winsize()
        guard unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return nil
        }
        return (Int(size.ws_col), size.ws_row > 0 ? Int(size.ws_row) : .max)
    }
}
