import CPostcopy
import PostcopyC

/// A `postcopy_error` that is freed with this.
@safe
final class CError: @unchecked Sendable {
    // SAFETY: the handle is constant, and the library's functions may be called from any thread.
    let handle: OpaquePointer

    init() { unsafe handle = postcopy_error_create() }

    deinit { unsafe postcopy_error_free(handle) }

    var code: Int { Int(unsafe postcopy_error_code(handle)) }

    var message: String { unsafe String(cString: postcopy_error_message(handle)) }

    /// Makes a call; answers its code and the reason.
    func of(_ call: (OpaquePointer) -> postcopy_code) -> Answer {
        let code = unsafe call(handle)
        return Answer(code: Int(code), message: message)
    }

    struct Answer: Equatable, CustomStringConvertible {
        let code: Int
        let message: String
        var description: String {
            "\(unsafe String(cString: postcopy_code_name(postcopy_code(code)))): \(message)"
        }
    }
}

/// The size of a struct of C's, which stands at its beginning.
func sized<Value>(_ value: Value, _ change: (inout Value) -> Void) -> Value {
    var value = value
    change(&value)
    return value
}
