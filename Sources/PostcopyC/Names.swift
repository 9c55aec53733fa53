// The header says what each of these promises. Others than public ones are hidden symbols.
public import CPostcopy

@c @implementation
public func postcopy_version() -> UInt32 {
    UInt32(POSTCOPY_VERSION_MAJOR) << 16 | UInt32(POSTCOPY_VERSION_MINOR) << 8
        | UInt32(POSTCOPY_VERSION_PATCH)
}

@c @implementation
public func postcopy_version_text() -> UnsafePointer<CChar>! { unsafe constant("1.0.0") }

@c @implementation
public func postcopy_code_name(_ code: postcopy_code) -> UnsafePointer<CChar>! {
    switch Int(code) {
    case POSTCOPY_OK: unsafe constant("POSTCOPY_OK")
    case POSTCOPY_INVALID_ARGUMENT: unsafe constant("POSTCOPY_INVALID_ARGUMENT")
    case POSTCOPY_BAD_HANDLE: unsafe constant("POSTCOPY_BAD_HANDLE")
    case POSTCOPY_WRONG_STATE: unsafe constant("POSTCOPY_WRONG_STATE")
    case POSTCOPY_CONFIGURATION: unsafe constant("POSTCOPY_CONFIGURATION")
    case POSTCOPY_MEMORY: unsafe constant("POSTCOPY_MEMORY")
    case POSTCOPY_REFUSED: unsafe constant("POSTCOPY_REFUSED")
    case POSTCOPY_CHANNEL: unsafe constant("POSTCOPY_CHANNEL")
    case POSTCOPY_SYSTEM: unsafe constant("POSTCOPY_SYSTEM")
    case POSTCOPY_CALLBACK: unsafe constant("POSTCOPY_CALLBACK")
    case POSTCOPY_NOT_COMPLETED: unsafe constant("POSTCOPY_NOT_COMPLETED")
    case POSTCOPY_TIMED_OUT: unsafe constant("POSTCOPY_TIMED_OUT")
    default: unsafe constant("unknown code")
    }
}

@c @implementation
public func postcopy_status_name(_ status: UInt32) -> UnsafePointer<CChar>! {
    switch Int(status) {
    case POSTCOPY_STATUS_NONE: unsafe constant("none")
    case POSTCOPY_STATUS_SETUP: unsafe constant("setup")
    case POSTCOPY_STATUS_ACTIVE: unsafe constant("active")
    case POSTCOPY_STATUS_DEVICE: unsafe constant("device")
    case POSTCOPY_STATUS_POSTCOPY_DEVICE: unsafe constant("postcopy-device")
    case POSTCOPY_STATUS_POSTCOPY_ACTIVE: unsafe constant("postcopy-active")
    case POSTCOPY_STATUS_POSTCOPY_PAUSED: unsafe constant("postcopy-paused")
    case POSTCOPY_STATUS_POSTCOPY_RECOVER: unsafe constant("postcopy-recover")
    case POSTCOPY_STATUS_COMPLETED: unsafe constant("completed")
    case POSTCOPY_STATUS_FAILED: unsafe constant("failed")
    case POSTCOPY_STATUS_CANCELLED: unsafe constant("cancelled")
    default: unsafe constant("unknown")
    }
}
