internal import Postcopy

extension Progress {
    /// - Parameters:
    ///   - destination: where that stands, if this process hears of it.
    ///   - waits: of the destination's threads.
    init(
        _ source: SourceProgress, bytesPerSecond: Double,
        destination: DestinationProgress? = nil, waits: RecentWaits? = nil
    ) {
        let total = max(1, source.totalPages)
        let sent = Double(total - source.remainingPages) / Double(total)
        var details = [
            "\(Readable.bytes(source.sentBytes.total)) sent",
            "\(source.remainingPages) pages left", "\(source.requests) requests",
            Readable.rate(bytesPerSecond),
        ]
        if source.status == .active, let precopy = source.precopy {
            let bytes = Double(precopy.dirtyPagesPerSecond) * Double(PageSize.target.bytes)
            details.append("\(Readable.rate(bytes)) dirtied")
        }
        let isThere = source.status.isAfterSwitch && destination != nil
        if isThere, let destination { details.append(destination.waitingText) }
        self.init(
            phase: source.status.rawValue, fraction: sent, details: details,
            isWarning: source.status.isPause, waits: isThere ? waits : nil)
    }

    init(
        _ destination: DestinationProgress, bytesPerSecond: Double, waits: RecentWaits? = nil
    ) {
        let total = max(1, destination.totalHostPages)
        let placed = Double(total - destination.missingHostPages) / Double(total)
        var details = [
            "\(Readable.bytes(destination.receivedBytes)) received",
            "\(destination.missingHostPages) pages missing",
            "\(destination.requests) requests", Readable.rate(bytesPerSecond),
        ]
        let isHere = destination.status.isAfterSwitch
        if isHere { details.append(destination.waitingText) }
        self.init(
            phase: destination.status.rawValue, fraction: placed, details: details,
            isWarning: destination.status.isPause, waits: isHere ? waits : nil)
    }
}

extension DestinationProgress {
    fileprivate var waitingText: String {
        waitingVCPUs == 1 ? "1 vCPU waits" : "\(waitingVCPUs) vCPUs wait"
    }
}

extension MigrationStatus {
    /// Whether the guest is without the rest of its memory until a link comes back.
    fileprivate var isPause: Bool { self == .postcopyPaused || self == .postcopyRecover }
}
