// The header says what each of these promises. Others than public ones are hidden symbols.
public import CPostcopy
internal import Postcopy

@c @implementation
public func postcopy_source_create(
    _ guest: UnsafePointer<postcopy_guest>!, _ options: UnsafePointer<postcopy_options>!,
    _ source: UnsafeMutablePointer<OpaquePointer?>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe handOut(source, "source") { () throws(Failure) in
            try unsafe Source(CallbackGuest(guest), .orDefault(options))
        }
    }
}

@c @implementation
public func postcopy_source_run(
    _ source: OpaquePointer!, _ address: UnsafePointer<CChar>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let source = try unsafe Handles.find(source, as: Source.self)
        try source.run(to: unsafe ChannelAddress(address))
    }
}

@c @implementation
public func postcopy_source_start(
    _ source: OpaquePointer!, _ address: UnsafePointer<CChar>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let source = try unsafe Handles.find(source, as: Source.self)
        try source.start(to: unsafe ChannelAddress(address))
    }
}

@c @implementation
public func postcopy_source_wait(
    _ source: OpaquePointer!, _ timeout: UInt64, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(source, as: Source.self).wait(timeoutNanoseconds: timeout)
    }
}

@c @implementation
public func postcopy_source_start_postcopy(
    _ source: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(source, as: Source.self).migration.startPostcopy()
    }
}

@c @implementation
public func postcopy_source_cancel(
    _ source: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(source, as: Source.self).migration.cancel()
    }
}

@c @implementation
public func postcopy_source_pause(
    _ source: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard try unsafe Handles.find(source, as: Source.self).migration.pause() else {
            throw .wrongState(
                "there is no link to end: the guest has not moved yet, or the migration is over")
        }
    }
}

@c @implementation
public func postcopy_source_recover(
    _ source: OpaquePointer!, _ addresses: UnsafePointer<UnsafePointer<CChar>?>!, _ count: Int,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let source = try unsafe Handles.find(source, as: Source.self)
        let addresses = try unsafe [ChannelAddress](addresses, count)
        guard source.migration.recover(at: addresses) else { throw .notPaused }
    }
}

@c @implementation
public func postcopy_source_abandon(
    _ source: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard try unsafe Handles.find(source, as: Source.self).migration.abandon() else {
            throw .notPaused
        }
    }
}

@c @implementation
public func postcopy_source_report_write(
    _ source: OpaquePointer!, _ block: UInt32, _ first_page: UInt64, _ page_count: UInt64,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let guest = try unsafe Handles.find(source, as: Source.self).guest
        guard let reports = guest.reports else {
            throw .wrongState(
                "the guest's writes are tracked in another way; set tracking to "
                    + "POSTCOPY_TRACK_REPORTS")
        }
        let pages = try guest.targetPages(ofBlock: block, first_page, page_count)
        reports.report(BlockIndex(rawValue: Int(block)), pages)
    }
}

@c @implementation
public func postcopy_source_hint_free(
    _ source: OpaquePointer!, _ block: UInt32, _ first_page: UInt64, _ page_count: UInt64,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let source = try unsafe Handles.find(source, as: Source.self)
        let pages = try source.guest.targetPages(ofBlock: block, first_page, page_count)
        try coded { try source.migration.hint(free: pages, ofBlock: Int(block)) }
    }
}

@c @implementation
public func postcopy_source_set_limits(
    _ source: OpaquePointer!, _ limits: UnsafePointer<postcopy_limits>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let source = try unsafe Handles.find(source, as: Source.self)
        let limits = try unsafe postcopy_limits.read(limits)
        try coded { try source.migration.setLimits { $0.adopt(limits) } }
    }
}

@c @implementation
public func postcopy_source_get_limits(
    _ source: OpaquePointer!, _ limits: UnsafeMutablePointer<postcopy_limits>!,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let source = try unsafe Handles.find(source, as: Source.self)
        try unsafe postcopy_limits.write(postcopy_limits(source.migration.limits), to: limits)
    }
}

@c @implementation
public func postcopy_source_progress(
    _ source: OpaquePointer!, _ progress: UnsafeMutablePointer<postcopy_progress>!,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let source = try unsafe Handles.find(source, as: Source.self)
        try unsafe postcopy_progress.write(source.progress, to: progress)
    }
}

@c @implementation
public func postcopy_source_get_report(
    _ source: OpaquePointer!, _ report: UnsafeMutablePointer<postcopy_source_report>!,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let outcome = try unsafe Handles.find(source, as: Source.self).report()
        try unsafe postcopy_source_report.write(postcopy_source_report(outcome), to: report)
    }
}

@c @implementation
public func postcopy_source_free(
    _ source: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard unsafe source != nil else { return }
        try unsafe Handles.find(source, as: Source.self).close()
        unsafe Handles.remove(source)
    }
}

extension Failure {
    static let notPaused = Failure.wrongState("the migration is not paused")
}

extension postcopy_options {
    /// The options given; all defaults where none are.
    static func orDefault(_ pointer: UnsafePointer<Self>?) throws(Failure) -> Self {
        guard let pointer = unsafe pointer else { return unsafe Self() }
        return try unsafe read(pointer)
    }
}

extension CallbackGuest {
    /// Pages of a block, which has them.
    fileprivate func targetPages(
        ofBlock block: UInt32, _ first: UInt64, _ count: UInt64
    ) throws(Failure) -> Range<Int> {
        guard block < blocks.count else {
            throw .invalid("there is no block \(block): the guest has \(blocks.count)")
        }
        let geometry = blocks[Int(block)].ram.geometry
        let pages = UInt64(geometry.targetPageCount)
        guard first <= pages, count <= pages - first else {
            throw .invalid("RAM block '\(geometry.name)' has \(pages) pages of 4096 bytes")
        }
        return Int(first)..<Int(first + count)
    }
}
