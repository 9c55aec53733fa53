// The header says what each of these promises. Others than public ones are hidden symbols.
public import CPostcopy
internal import Postcopy

@c @implementation
public func postcopy_faults_create(
    _ options: UnsafePointer<postcopy_faults_options>!,
    _ faults: UnsafeMutablePointer<OpaquePointer?>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe handOut(faults, "faults") { () throws(Failure) in
            try unsafe Faults(.read(options))
        }
    }
}

@c @implementation
public func postcopy_faults_start(
    _ faults: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(faults, as: Faults.self).start()
    }
}

@c @implementation
public func postcopy_faults_fill(
    _ faults: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(faults, as: Faults.self).handler.fill()
    }
}

@c @implementation
public func postcopy_faults_prefetch(
    _ faults: OpaquePointer!, _ trace_file: UnsafePointer<CChar>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let faults = try unsafe Handles.find(faults, as: Faults.self)
        let path = try unsafe text(trace_file, "trace_file")
        try coded { try faults.handler.prefetch(try FaultTrace(contentsOf: path)) }
    }
}

@c @implementation
public func postcopy_faults_wait_filled(
    _ faults: OpaquePointer!, _ timeout: UInt64, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let faults = try unsafe Handles.find(faults, as: Faults.self)
        try faults.waitUntilFilled(timeoutNanoseconds: timeout)
    }
}

@c @implementation
public func postcopy_faults_wait_ended(
    _ faults: OpaquePointer!, _ timeout: UInt64, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let faults = try unsafe Handles.find(faults, as: Faults.self)
        try faults.waitUntilEnded(timeoutNanoseconds: timeout)
    }
}

@c @implementation
public func postcopy_faults_get_progress(
    _ faults: OpaquePointer!, _ progress: UnsafeMutablePointer<postcopy_faults_progress>!,
    _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        let faults = try unsafe Handles.find(faults, as: Faults.self)
        let report = faults.report
        try unsafe postcopy_faults_progress.write(
            postcopy_faults_progress(report?.progress ?? faults.handler.progress, report?.latency),
            to: progress)
    }
}

@c @implementation
public func postcopy_faults_stop(
    _ faults: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        try unsafe Handles.find(faults, as: Faults.self).stop()
    }
}

@c @implementation
public func postcopy_faults_save_trace(
    _ faults: OpaquePointer!, _ trace_file: UnsafePointer<CChar>!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard let report = try unsafe Handles.find(faults, as: Faults.self).report else {
            throw .wrongState("there is no trace before postcopy_faults_stop")
        }
        let path = try unsafe text(trace_file, "trace_file")
        do { try report.trace.write(to: path) } catch { throw .system("\(error)") }
    }
}

@c @implementation
public func postcopy_faults_free(
    _ faults: OpaquePointer!, _ error: OpaquePointer!
) -> postcopy_code {
    unsafe attempt(error) { () throws(Failure) in
        guard unsafe faults != nil else { return }
        try unsafe Handles.find(faults, as: Faults.self).close()
        unsafe Handles.remove(faults)
    }
}

extension postcopy_faults_progress {
    fileprivate init(_ progress: FaultProgress, _ latency: LatencySummary?) {
        self.init()
        faults = progress.faults
        pages_urgent = progress.urgentPages
        pages_background = progress.backgroundPages
        pages_zero = progress.zeroPages
        pages_removed = progress.removedPages
        pages_lost = progress.lostPages
        pages_missing = UInt64(progress.missingPages)
        read_errors = progress.providerErrors
        serves = progress.state == .serving ? 1 : 0
        guard let latency else { return }
        latency_mean = latency.meanNanoseconds
        latency_p50 = latency.p50Nanoseconds
        latency_p99 = latency.p99Nanoseconds
        latency_max = latency.maxNanoseconds
    }
}
