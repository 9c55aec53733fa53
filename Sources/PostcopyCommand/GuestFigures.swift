internal import Parking
internal import Postcopy

/// The memory that a report is about.
struct MemoryFigures {
    let totalBytes: UInt64
    /// What most of it is counted in.
    let pageBytes: UInt64

    init(_ plan: MemoryPlan) {
        totalBytes = plan.lengthBytes
        pageBytes = plan.page.bytes
    }

    init(_ machine: ParkedMachine) {
        totalBytes = machine.memory.reduce(0) { $0 + $1.usedBytes }
        pageBytes = PageSize.target.bytes
    }
}

/// A machine that somebody else configured, as its stream describes it.
struct GuestFigures: Codable, Equatable {
    struct Block: Codable, Equatable {
        var name: String
        var bytes: UInt64
        var pageSize: UInt64
    }

    var machineType: String
    var blocks: [Block]
    /// Its device state; known once it has come.
    var deviceBytes: Int?
    /// The folder that it was parked in, or sent from.
    var park: String?

    init(_ machine: ParkedMachine, park: String? = nil) {
        machineType = machine.machineType
        blocks = machine.memory.map { ram in
            Block(
                name: ram.geometry.name, bytes: ram.usedBytes,
                pageSize: ram.geometry.hostPage.bytes)
        }
        let devices = machine.saveDevices().count
        deviceBytes = devices == 0 ? nil : devices
        self.park = park
    }
}

/// How a machine went through; instants count from the arrival's start.
struct RelayFigures: Codable, Equatable {
    /// The machine's memory, all of which is held until the last page has left.
    var heldBytes: UInt64
    /// When every page was here, and the host that the machine left could go.
    var sourceFreeAtNs: UInt64?
    /// When the next host had every page.
    var handedOnAtNs: UInt64?
    /// How much sooner the one was than the other.
    var evacuationNs: UInt64?
    /// How often a next host was asked to take the machine.
    var attempts: Int

    init(_ report: RelayReport) {
        let start = report.arrival.changes.first?.atNanoseconds ?? 0
        heldBytes = report.memoryBytes
        attempts = report.attempts
        evacuationNs = report.evacuationNanoseconds
        if report.arrival.status == .completed {
            sourceFreeAtNs = report.arrival.endedAtNanoseconds - start
        }
        if report.isComplete { handedOnAtNs = report.departure.endedAtNanoseconds - start }
    }
}
