public import LinuxKernel

/// Why a hand-off is refused. Regions are counted from 0, as they were sent.
public enum HandOffError: Error, Equatable, Sendable, CustomStringConvertible {
    case tooLong(maximum: Int)
    case notJSON(String, isTruncated: Bool)
    case noList
    case noObject(region: Int)
    case missing(region: Int, field: String)
    case noNumber(region: Int, field: String)
    case twoPageSizes(region: Int, UInt64, UInt64)
    case unalignedOffset(region: Int, UInt64)
    /// Two regions that are to hold the same part of the content.
    case sameContent(Int, Int)
    /// What the regions say cannot be, or the descriptor is none that can be served.
    case memory(ForeignMemoryError)
    case beyondContent(region: Int, end: UInt64, contentBytes: UInt64)
    case noDescriptor
    case tooManyDescriptors(Int)
    /// - Parameter afterBytes: how much of the message had come.
    case ended(afterBytes: Int)
    case silent(afterBytes: Int, milliseconds: UInt64)
    case link(Errno)

    public var description: String {
        switch self {
        case .tooLong(let maximum): "the message is longer than \(maximum) bytes"
        case .notJSON(let reason, _): "the message is no JSON: \(reason)"
        case .noList: "the message is no array of regions"
        case .noObject(let region): "region \(region) is no object"
        case .missing(let region, let field): "region \(region): '\(field)' is missing"
        case .noNumber(let region, let field):
            "region \(region): '\(field)' is no whole number of 64 bits"
        case .twoPageSizes(let region, let bytes, let older):
            "region \(region): 'page_size' says \(bytes) bytes and 'page_size_kib' \(older)"
        case .unalignedOffset(let region, let offset):
            "region \(region): 'offset' \(offset) is no multiple of 4096"
        case .sameContent(let first, let second):
            "regions \(first) and \(second) name the same part of the content"
        case .memory(let error): "\(error)"
        case .beyondContent(let region, let end, let contentBytes):
            "region \(region) ends at byte \(end) of the content, which has \(contentBytes)"
        case .noDescriptor:
            "no descriptor came with the message: the userfaultfd is sent by SCM_RIGHTS with its "
                + "first byte"
        case .tooManyDescriptors(let count):
            "\(count) descriptors came with the message, and one is due: the userfaultfd; memory "
                + "in a guest_memfd is not served"
        case .ended(let bytes): "the connection ended after \(bytes) bytes of the message"
        case .silent(let bytes, let milliseconds):
            "the message was not whole within \(milliseconds) ms, \(bytes) bytes of it had come"
        case .link(let error): "the connection failed: \(error)"
        }
    }
}
