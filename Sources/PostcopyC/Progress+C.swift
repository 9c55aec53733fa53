internal import CPostcopy
internal import Postcopy

extension MigrationStatus {
    /// The number that C knows it by.
    var number: UInt32 {
        let number =
            switch self {
            case .none: POSTCOPY_STATUS_NONE
            case .setup: POSTCOPY_STATUS_SETUP
            case .active: POSTCOPY_STATUS_ACTIVE
            case .device: POSTCOPY_STATUS_DEVICE
            case .postcopyDevice: POSTCOPY_STATUS_POSTCOPY_DEVICE
            case .postcopyActive: POSTCOPY_STATUS_POSTCOPY_ACTIVE
            case .postcopyPaused: POSTCOPY_STATUS_POSTCOPY_PAUSED
            case .postcopyRecover: POSTCOPY_STATUS_POSTCOPY_RECOVER
            case .completed: POSTCOPY_STATUS_COMPLETED
            case .failed: POSTCOPY_STATUS_FAILED
            case .cancelled: POSTCOPY_STATUS_CANCELLED
            }
        return UInt32(number)
    }
}

extension postcopy_progress {
    init(_ source: SourceProgress) {
        self.init()
        status = source.status.number
        waits_for_somebody = source.recovery.waitsForSomebody ? 1 : 0
        pages_total = UInt64(source.totalPages)
        pages_remaining = UInt64(source.remainingPages)
        bytes = source.sentBytes.total
        pages_normal = source.normalPages
        pages_zero = source.zeroPages
        pages_urgent = source.urgentPages
        requests = source.requests
        breaks = UInt32(clamping: source.recovery.breakCount)
        guard let precopy = source.precopy else { return }
        rounds = UInt64(precopy.roundCount)
        bytes_per_second = precopy.bytesPerSecond
        dirty_pages_per_second = precopy.dirtyPagesPerSecond
        throttle_percent = UInt32(clamping: precopy.throttlePercent)
    }

    init(_ destination: DestinationProgress) {
        self.init()
        status = destination.status.number
        waits_for_somebody = destination.recovery.waitsForSomebody ? 1 : 0
        pages_total = UInt64(destination.totalHostPages)
        pages_remaining = UInt64(destination.missingHostPages)
        bytes = destination.receivedBytes
        pages_normal =
            destination.backgroundPages + destination.urgentPages
            - min(destination.zeroPages, destination.backgroundPages + destination.urgentPages)
        pages_zero = destination.zeroPages
        pages_urgent = destination.urgentPages
        requests = destination.requests
        faults = destination.faults
        breaks = UInt32(clamping: destination.recovery.breakCount)
    }
}

extension postcopy_source_report {
    /// Valid as long as `outcome` lives.
    init(_ outcome: SourceOutcome) {
        unsafe self.init()
        let report = outcome.report
        let precopy = report.precopy
        unsafe status = outcome.status.number
        unsafe flags = flagBits([
            (report.guestRunsHere, POSTCOPY_GUEST_RUNS_HERE),
            (report.isAbandoned, POSTCOPY_ABANDONED),
            (precopy?.restWasSent ?? false, POSTCOPY_REST_WAS_SENT),
        ])
        unsafe problem = outcome.problem?.pointer
        unsafe started_at = report.startedAtNanoseconds
        unsafe ended_at = report.endedAtNanoseconds
        unsafe guest_stopped_at = report.guestStoppedAtNanoseconds ?? 0
        unsafe committed_at = report.committedAtNanoseconds ?? 0
        unsafe downtime = report.downtimeNanoseconds ?? 0
        unsafe bytes_precopy = report.progress.sentBytes.precopy
        unsafe bytes_downtime = report.progress.sentBytes.downtime
        unsafe bytes_postcopy = report.progress.sentBytes.postcopy
        unsafe pages_normal = report.progress.normalPages
        unsafe pages_zero = report.progress.zeroPages
        unsafe pages_urgent = report.progress.urgentPages
        unsafe requests = report.progress.requests
        unsafe rounds = UInt64(precopy?.roundCount ?? 0)
        unsafe pages_owed = UInt64(precopy?.owedPages ?? 0)
        unsafe discard_ranges = UInt64(report.discards.ranges)
        unsafe breaks = UInt64(report.progress.recovery.breakCount)
    }
}

extension postcopy_destination_report {
    /// Valid as long as `outcome` lives.
    init(_ outcome: DestinationOutcome) {
        unsafe self.init()
        let (report, progress) = (outcome.report, outcome.report.progress)
        unsafe status = report.status.number
        unsafe flags = flagBits([
            (report.guestRunsHere, POSTCOPY_GUEST_RUNS_HERE),
            (report.isAbandoned, POSTCOPY_ABANDONED),
        ])
        unsafe problem = outcome.problem?.pointer
        unsafe guest_running_at = report.guestRunningAtNanoseconds ?? 0
        unsafe ended_at = report.endedAtNanoseconds
        unsafe bytes_received = progress.receivedBytes
        unsafe pages_background = progress.backgroundPages
        unsafe pages_urgent = progress.urgentPages
        unsafe pages_zero = progress.zeroPages
        unsafe requests = progress.requests
        unsafe faults = progress.faults
        unsafe breaks = UInt64(progress.recovery.breakCount)
        unsafe missing = outcome.missing.pointer
        unsafe missing_count = outcome.missing.count
        guard let blocktime = report.blocktime else { return }
        unsafe vcpu_blocktime = outcome.blocktime.pointer
        unsafe vcpu_count = outcome.blocktime.count
        unsafe overlapped_blocktime = blocktime.overlappedNanoseconds
        let latency = blocktime.latency
        unsafe waits = latency.count
        unsafe wait_mean = latency.meanNanoseconds
        unsafe wait_p50 = latency.p50Nanoseconds
        unsafe wait_p99 = latency.p99Nanoseconds
        unsafe wait_max = latency.maxNanoseconds
    }
}

private func flagBits(_ flags: [(isSet: Bool, bit: Int)]) -> UInt32 {
    flags.reduce(0) { $1.isSet ? $0 | UInt32($1.bit) : $0 }
}
