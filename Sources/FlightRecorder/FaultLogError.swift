/// Why bytes are no fault log, and at which of them that shows.
public enum FaultLogError: Error, Hashable, Sendable, CustomStringConvertible {
    /// They do not begin like one.
    case foreign
    /// It was written by a later program.
    case newer(version: UInt16)
    /// They end in the middle.
    case cut(at: Int)
    /// A section's check value does not fit its bytes.
    case damaged(at: Int)
    /// What stands there means nothing, although it is what somebody wrote.
    case malformed(at: Int, String)

    /// What is wrong, and where.
    public var description: String {
        switch self {
        case .foreign: "it does not begin like a fault log"
        case .newer(let version):
            "a fault log of version \(version) is newer than this program reads "
                + "(\(FaultLogCodec.version))"
        case .cut(let place): "the fault log is cut off at byte \(place)"
        case .damaged(let place): "the fault log is damaged in the section at byte \(place)"
        case .malformed(let place, let reason): "the fault log is wrong at byte \(place): \(reason)"
        }
    }
}
