public import LinuxKernel

/// Why a test workload cannot be described, restored or started.
public enum WorkloadError: Error, Equatable, Sendable, CustomStringConvertible {
    /// An option of the specification has a value that no workload can have.
    case option(name: String, value: String, remedy: String)
    /// The RAM block is not the one that the specification describes.
    case memoryLength(blockBytes: UInt64, specificationBytes: UInt64)
    /// The saved state belongs to a workload with another specification.
    case otherWorkload
    /// The saved state ends before it is complete.
    case stateTruncated(haveBytes: Int, needBytes: Int)
    /// A field of the saved state has a value that it cannot have.
    case stateField(name: String, value: UInt64, at: Int)
    /// The bytes of the saved state are not those that were written.
    case stateChecksum(expected: UInt64, found: UInt64, at: Int)
    /// Bytes follow the end of the saved state.
    case stateTrailingBytes(count: Int, at: Int)
    /// The kernel gave no thread or no eventfd.
    case kernel(Errno)

    public var description: String {
        switch self {
        case .option(let name, let value, let remedy):
            "\(name) \(value) is refused: \(remedy)"
        case .memoryLength(let block, let specification):
            "the RAM block has \(block) bytes, the workload describes \(specification): "
                + "give both the same length"
        case .otherWorkload:
            "the saved state is of another workload: give both sides the same options"
        case .stateTruncated(let have, let need):
            "workload state: \(have) bytes, at least \(need) needed"
        case .stateField(let name, let value, let place):
            "workload state: \(name) is \(value) at byte \(place)"
        case .stateChecksum(let expected, let found, let place):
            "workload state: checksum at byte \(place) is \(found), the bytes give \(expected)"
        case .stateTrailingBytes(let count, let place):
            "workload state: \(count) bytes too many from byte \(place)"
        case .kernel(let errno):
            "workload: the kernel refused a thread or an eventfd: errno \(errno.rawValue)"
        }
    }
}
