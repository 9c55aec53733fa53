internal import FlightRecorder
internal import LinuxKernel
internal import MigrationCore
internal import PageModel

extension FaultLog {
    /// What the threads of a source left.
    init(of state: SourceState, _ report: SourceReport) {
        self.init(blocks: state.geometries)
        var source = Source()
        source.side = Side(report.changes, endedAt: report.endedAtNanoseconds)
        source.guestStoppedAt = report.guestStoppedAtNanoseconds ?? 0
        (source.services, source.lostServices) = state.services.current
        self.source = source
    }

    /// What the threads of a destination left.
    init(of state: DestinationState, _ report: DestinationReport, _ waits: WaitAccount.Outcome) {
        self.init(blocks: state.geometries)
        var destination = Destination()
        destination.side = Side(report.changes, endedAt: report.endedAtNanoseconds)
        destination.guestRunningAt = report.guestRunningAtNanoseconds ?? 0
        destination.vcpuThreads = waits.vcpuThreads
        destination.threadNames = waits.threadNames
        destination.overlappedNanoseconds = waits.blocktime.overlappedNanoseconds
        (destination.waits, destination.lostWaits) = (waits.records, waits.lostCount)
        (destination.placements, destination.lostPlacements) = state.placements.current
        self.destination = destination
    }

    private init(blocks: [BlockGeometry]) {
        self.init()
        self.blocks = blocks.map {
            Block(
                name: $0.name, lengthBytes: $0.lengthBytes, hostPageBytes: $0.hostPage.bytes)
        }
    }
}

extension FaultLog.Side {
    fileprivate init(_ changes: [StatusChange], endedAt: UInt64) {
        self.init()
        bootID = HostIdentity.bootID ?? ""
        phases = changes.map {
            FaultLog.Phase(status: $0.status.rawValue, at: $0.atNanoseconds)
        }
        self.endedAt = endedAt
    }
}
