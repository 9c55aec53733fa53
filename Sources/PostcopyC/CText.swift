internal import CPostcopy

/// A text of ours that C reads: valid for as long as this lives.
@safe
final class OwnedText: @unchecked Sendable {
    // SAFETY: `bytes` is written in `init` alone and freed by `deinit`.
    private let bytes: UnsafeMutablePointer<CChar>

    init(_ text: String) {
        let utf8 = text.utf8CString
        unsafe bytes = UnsafeMutablePointer.allocate(capacity: utf8.count)
        for (index, byte) in utf8.enumerated() { unsafe bytes[index] = byte }
    }

    deinit { unsafe bytes.deallocate() }

    /// - Returns: the text with its closing NUL.
    @unsafe var pointer: UnsafePointer<CChar> { unsafe UnsafePointer(bytes) }
}

/// A text that is part of the program.
@unsafe func constant(_ text: StaticString) -> UnsafePointer<CChar> {
    // A literal in the program ends with NUL.
    unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

/// Calls a function of C that may write why it failed.
/// - Returns: what it answered, and what it wrote.
func askingWhy(
    _ call: (UnsafeMutablePointer<CChar>?) -> Int32
) -> (answer: Int32, reason: String?) {
    let size = Int(POSTCOPY_WHY_BYTES)
    return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: size) { why in
        unsafe why.initialize(repeating: 0)
        let answer = unsafe call(why.baseAddress)
        guard answer != 0 else { return (answer, nil) }
        let bytes = unsafe why.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return (answer, bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self))
    }
}

/// A text of C's.
/// - Parameter name: what it is, for the one who gave it.
func text(_ pointer: UnsafePointer<CChar>?, _ name: String) throws(Failure) -> String {
    guard let pointer = unsafe pointer else { throw .null(name) }
    guard let text = unsafe String(validatingCString: pointer) else {
        throw .invalid("\(name) is no UTF-8")
    }
    return text
}
