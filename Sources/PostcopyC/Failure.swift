internal import CPostcopy
internal import Postcopy

/// What a call answers that did not go well, and why in one line.
struct Failure: Error, Equatable, Sendable {
    let code: postcopy_code
    let message: String

    private init(_ code: Int, _ message: String) {
        self.code = postcopy_code(code)
        self.message = message
    }

    static func invalid(_ message: String) -> Failure {
        Failure(POSTCOPY_INVALID_ARGUMENT, message)
    }

    static func null(_ name: String) -> Failure { .invalid("\(name) is NULL") }

    static func badHandle(_ message: String) -> Failure { Failure(POSTCOPY_BAD_HANDLE, message) }

    static func wrongState(_ message: String) -> Failure { Failure(POSTCOPY_WRONG_STATE, message) }

    static func refused(_ message: String) -> Failure { Failure(POSTCOPY_REFUSED, message) }

    static func callback(_ message: String) -> Failure { Failure(POSTCOPY_CALLBACK, message) }

    static func notCompleted(_ message: String) -> Failure {
        Failure(POSTCOPY_NOT_COMPLETED, message)
    }

    static let timedOut = Failure(POSTCOPY_TIMED_OUT, "the time to wait is over")

    static func system(_ message: String) -> Failure { Failure(POSTCOPY_SYSTEM, message) }

    /// The code for an error of the library, with its own words.
    init(_ error: any Error) {
        let code =
            switch error {
            case let failure as Failure: Int(failure.code)
            case is ConfigurationError, is GeometryError, is PrecopySettingsError:
                POSTCOPY_CONFIGURATION
            case StartRefusal.noThread: POSTCOPY_SYSTEM
            case is StartRefusal, is AbandonRefusal: POSTCOPY_WRONG_STATE
            case FaultHandlerError.alreadyStarted, FaultHandlerError.stopped: POSTCOPY_WRONG_STATE
            case FaultHandlerError.startingThreads, FilePagesError.opening: POSTCOPY_SYSTEM
            case is FaultHandlerError, is ForeignMemoryError, is FilePagesError,
                is FaultTraceError:
                POSTCOPY_CONFIGURATION
            case is RAMError: POSTCOPY_MEMORY
            case is UserfaultfdRefusal, is TrackerRefusal: POSTCOPY_REFUSED
            case is ChannelError, is ChannelAddress.ParseError: POSTCOPY_CHANNEL
            default: POSTCOPY_SYSTEM
            }
        self.init(code, (error as? Failure)?.message ?? "\(error)")
    }
}

/// Does what a C function is for and answers its code; `error` learns how it went.
func attempt(
    _ error: OpaquePointer?, _ body: () throws(Failure) -> Void
) -> postcopy_code {
    let reason = try? unsafe Handles.find(error, as: Reason.self)
    do throws(Failure) {
        try body()
        reason?.clear()
        return postcopy_code(POSTCOPY_OK)
    } catch {
        reason?.set(error)
        return error.code
    }
}

/// Runs what throws errors of the library, which then have a code.
func coded<Result: ~Copyable>(_ body: () throws -> Result) throws(Failure) -> Result {
    do { return try body() } catch { throw Failure(error) }
}
