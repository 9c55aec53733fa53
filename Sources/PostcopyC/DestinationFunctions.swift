// The header says what each of these promises. Others than public ones are hidden symbols.
public import CPostcopy
internal import Postcopy

@c @implementation
public func postcopy_destination_create(
    _ guest: UnsafePointer<postcopy_guest>!, _ options: UnsafePointer<postcopy_options>!,
    _ destination: UnsafeMutablePointer<OpaquePointer?>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe handOut(destination, "destination") { () throws(Failure) in
            try unsafe Destination(CallbackGuest(guest), .orDefault(options))
        }
    }
}

@c @implementation
public func postcopy_destination_listen(
    _ destination: OpaquePointer!, _ address: UnsafePointer<CChar>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let destination = try unsafe Handles.find(destination, as: Destination.self)
        try destination.listen(at: unsafe ChannelAddress(address))
    }
}

@c @implementation
public func postcopy_destination_address(
    _ destination: OpaquePointer!
) -> UnsafePointer<CChar>! {
    unsafe (try? unsafe Handles.find(destination, as: Destination.self))?.address?.pointer
}

@c @implementation
public func postcopy_destination_run(
    _ destination: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(destination, as: Destination.self).run()
    }
}

@c @implementation
public func postcopy_destination_start(
    _ destination: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(destination, as: Destination.self).start()
    }
}

@c @implementation
public func postcopy_destination_wait(
    _ destination: OpaquePointer!, _ timeout: UInt64, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(destination, as: Destination.self).wait(timeoutNanoseconds: timeout)
    }
}

@c @implementation
public func postcopy_destination_cancel(
    _ destination: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(destination, as: Destination.self).migration.cancel()
    }
}

@c @implementation
public func postcopy_destination_pause(
    _ destination: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard try unsafe Handles.find(destination, as: Destination.self).migration.pause() else {
            throw .wrongState(
                "there is no link to end: the guest has not moved yet, or the migration is over")
        }
    }
}

@c @implementation
public func postcopy_destination_recover(
    _ destination: OpaquePointer!, _ address: UnsafePointer<CChar>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let destination = try unsafe Handles.find(destination, as: Destination.self)
        guard unsafe address != nil else { return try destination.recover(at: nil) }
        try destination.recover(at: unsafe ChannelAddress(address))
    }
}

@c @implementation
public func postcopy_destination_abandon(
    _ destination: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard try unsafe Handles.find(destination, as: Destination.self).migration.abandon() else {
            throw .notPaused
        }
    }
}

@c @implementation
public func postcopy_destination_abandon_guest(
    _ destination: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let destination = try unsafe Handles.find(destination, as: Destination.self)
        _ = try destination.report()
        try coded { try destination.migration.abandonGuest() }
    }
}

@c @implementation
public func postcopy_destination_progress(
    _ destination: OpaquePointer!, _ progress: UnsafeMutablePointer<postcopy_progress>!,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let destination = try unsafe Handles.find(destination, as: Destination.self)
        try unsafe postcopy_progress.write(destination.progress, to: progress)
    }
}

@c @implementation
public func postcopy_destination_get_report(
    _ destination: OpaquePointer!,
    _ report: UnsafeMutablePointer<postcopy_destination_report>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let outcome = try unsafe Handles.find(destination, as: Destination.self).report()
        try unsafe postcopy_destination_report.write(
            postcopy_destination_report(outcome), to: report)
    }
}

@c @implementation
public func postcopy_destination_free(
    _ destination: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard unsafe destination != nil else { return }
        try unsafe Handles.find(destination, as: Destination.self).close()
        unsafe Handles.remove(destination)
    }
}
