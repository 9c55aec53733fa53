public import Postcopy
public import StreamWire
internal import Synchronization

/// A guest of another program that is kept and never run: its RAM blocks, and its devices as bytes that
/// nobody here understands.
///
/// As a destination it takes such a guest over; as a source it hands it on, byte for byte. Nobody writes
/// its memory, so that a precopy finds nothing to send twice.
public final class ParkedMachine: Guest {
    public let machineType: String
    public let streamIdentity: StreamIdentity
    /// Where the machine came from, for people.
    public let origin: String
    public let memory: [GuestRAM]
    public let faultOrigin: FaultOrigin
    private let state: Mutex<State>

    private struct State {
        var devices: [UInt8]
        var isResumed = false
    }

    /// More than a source lists (`StreamIntroduction`).
    static let blocksMax = 256
    /// As long as the head of a stream can be.
    static let configurationBytesMax = 128 << 10
    static let machineTypeBytesMax = 255
    static let originBytesMax = 1_024
    /// What a stream's package can be.
    static let devicesBytesMax = 64 << 20

    /// A machine with this memory.
    /// - Parameter faultOrigin: `.userOnly` serves as long as no system call is given memory of which
    ///   pages are missing.
    /// - Throws: `ParkError` for a machine that could not be written to a `ParkDirectory`.
    public init(
        machineType: String, streamIdentity: StreamIdentity, origin: String, memory: [GuestRAM],
        devices: [UInt8] = [], faultOrigin: FaultOrigin = .userOnly
    ) throws(ParkError) {
        try Self.check(machineType.utf8.count, Self.machineTypeBytesMax, "bytes of machine type")
        try Self.check(
            streamIdentity.configuration.count, Self.configurationBytesMax, "bytes of configuration"
        )
        try Self.check(origin.utf8.count, Self.originBytesMax, "bytes of origin")
        try Self.check(devices.count, Self.devicesBytesMax, "bytes of device state")
        try Self.check(memory.map(\.geometry.name))
        self.machineType = machineType
        self.streamIdentity = streamIdentity
        self.origin = origin
        self.memory = memory
        self.faultOrigin = faultOrigin
        state = Mutex(State(devices: devices))
    }

    /// The machine that a source has introduced, with fresh memory in the pages of this host. Larger
    /// pages of the source are only counted here.
    /// - Parameter backing: `.anonymous`, in which zero pages take nothing, or `.memfd`.
    /// - Throws: `ParkError`, before anything is mapped when this host has too little memory.
    public convenience init(
        describedBy introduction: StreamIntroduction, origin: String,
        backing: RAMBacking = .anonymous, faultOrigin: FaultOrigin = .userOnly
    ) throws(ParkError) {
        try self.init(
            machineType: introduction.machineType,
            streamIdentity: StreamIdentity(
                configuration: introduction.configuration, ramSection: introduction.ramSection),
            origin: origin, memory: Self.makeMemory(introduction.blocks, backing),
            faultOrigin: faultOrigin)
    }

    public var vcpuThreads: [Int32] { [] }

    /// Whether the machine has become this side's: it would run here, were it not parked.
    public var isResumed: Bool { state.withLock { $0.isResumed } }

    public func pause() { state.withLock { $0.isResumed = false } }
    public func resume() { state.withLock { $0.isResumed = true } }

    /// The device sections as they came.
    public func saveDevices() -> [UInt8] { state.withLock { $0.devices } }

    /// Keeps the device sections. Touches no memory.
    public func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        guard sections.count <= Self.devicesBytesMax else {
            throw GuestError(
                "device state of \(sections.count) bytes, \(Self.devicesBytesMax) is the most that "
                    + "is kept")
        }
        state.withLock { $0.devices = sections }
    }

    /// Nobody writes, and so nobody reports a write.
    public func makeDirtyTracker(ignoring ignored: Set<BlockIndex>) -> any DirtyTracker {
        ReportedWrites(memory.map(\.geometry), ignoring: ignored)
    }

    /// What the files of the blocks are long, and what their memory takes at most.
    var totalBytes: UInt64 { Self.sum(memory.map(\.usedBytes)) }

    private static func makeMemory(
        _ blocks: [StreamIntroduction.Block], _ backing: RAMBacking
    ) throws(ParkError) -> [GuestRAM] {
        precondition(backing != .hugetlb, "larger pages are only counted")
        try check(blocks.map(\.name))
        let needed = sum(blocks.map(\.usedBytes))
        if let available = HostMemory.availableBytes, needed > available {
            throw .tooLittleMemory(neededBytes: needed, availableBytes: available)
        }
        var memory: [GuestRAM] = []
        for block in blocks {
            let geometry = try geometry(of: block)
            do throws(RAMError) {
                memory.append(
                    try GuestRAM(geometry, backing: backing, allowsLargerHostPages: true))
            } catch { throw .ram(error) }
        }
        return memory
    }

    static func geometry(
        of block: StreamIntroduction.Block
    ) throws(ParkError) -> BlockGeometry {
        do throws(GeometryError) {
            return try BlockGeometry(
                name: block.name, lengthBytes: block.usedBytes, hostPage: block.hostPage)
        } catch { throw .geometry(error) }
    }

    /// A block is known by its name alone, byte for byte.
    static func check(_ names: [String]) throws(ParkError) {
        guard !names.isEmpty else { throw .noBlocks }
        try check(names.count, blocksMax, "RAM blocks")
        var seen: Set<[UInt8]> = []
        for name in names where !seen.insert(Array(name.utf8)).inserted {
            throw .repeatedBlock(name)
        }
    }

    private static func check(
        _ count: Int, _ maximum: Int, _ what: String
    ) throws(ParkError) {
        guard count <= maximum else {
            throw .tooMuch(what: what, count: count, maximum: maximum)
        }
    }

    /// Lengths are a peer's: they may be anything.
    private static func sum(_ lengths: [UInt64]) -> UInt64 {
        lengths.reduce(0) { sum, length in
            let (total, overflows) = sum.addingReportingOverflow(length)
            return overflows ? .max : total
        }
    }
}
