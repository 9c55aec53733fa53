public import LinuxKernel

/// Why a hand-off is refused. Regions are counted from 0, as they were sent.
public enum HandOffError: Error, Equatable, Sendable, CustomStringConvertible {
    /// More than a message may have.
    case tooLong(maximum: Int)
    /// It is no JSON, for this reason.
    case notJSON(String, isTruncated: Bool)
    /// It is no array.
    case noList
    /// An entry of the array is no object.
    case noObject(region: Int)
    /// A field is missing.
    case missing(region: Int, field: String)
    /// A field is no whole number.
    case noNumber(region: Int, field: String)
    /// The two fields for the page size differ.
    case twoPageSizes(region: Int, UInt64, UInt64)
    /// Its content does not begin with a page.
    case unalignedOffset(region: Int, UInt64)
    /// Two regions that are to hold the same part of the content.
    case sameContent(Int, Int)
    /// What the regions say cannot be, or the descriptor is none that can be served.
    case memory(ForeignMemoryError)
    /// Its content ends behind what there is.
    case beyondContent(region: Int, end: UInt64, contentBytes: UInt64)
    /// No descriptor came with it.
    case noDescriptor
    /// More than one descriptor came with it.
    case tooManyDescriptors(Int)
    /// - Parameter afterBytes: how much of the message had come.
    case ended(afterBytes: Int)
    /// It did not come in time.
    case silent(afterBytes: Int, milliseconds: UInt64)
    /// The connection failed.
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
