// The header says what each of these promises. Others than public ones are hidden symbols.
public import CPostcopy
internal import Synchronization

/// `postcopy_error`: why the last call that it was given to failed.
final class Reason: Handled {
    static let kind = "postcopy_error"

    private struct Content: Sendable {
        var code = postcopy_code(POSTCOPY_OK)
        var message = OwnedText("")
    }

    private let content = Mutex(Content())

    func set(_ failure: Failure) {
        content.withLock { $0 = Content(code: failure.code, message: OwnedText(failure.message)) }
    }

    func clear() {
        content.withLock { content in
            guard content.code != POSTCOPY_OK else { return }
            content = Content()
        }
    }

    var code: postcopy_code { content.withLock { $0.code } }

    var message: OwnedText { content.withLock { $0.message } }
}

@c @implementation
public func postcopy_error_create() -> OpaquePointer! { unsafe Handles.add(Reason()) }

@c @implementation
public func postcopy_error_code(_ error: OpaquePointer!) -> postcopy_code {
    do throws(Failure) { return try unsafe Handles.find(error, as: Reason.self).code } catch {
        return error.code
    }
}

@c @implementation
public func postcopy_error_message(_ error: OpaquePointer!) -> UnsafePointer<CChar>! {
    guard let reason = try? unsafe Handles.find(error, as: Reason.self) else {
        return unsafe constant("no postcopy_error was given")
    }
    return unsafe reason.message.pointer
}

@c @implementation
public func postcopy_error_free(_ error: OpaquePointer!) {
    guard (try? unsafe Handles.find(error, as: Reason.self)) != nil else { return }
    unsafe Handles.remove(error)
}
