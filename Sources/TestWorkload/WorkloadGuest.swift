public import Postcopy
internal import StreamWire
internal import Synchronization

/// A test workload as a guest that can be migrated: one RAM block, and one device whose state says
/// what the workload is and how far it has come.
///
/// At the source it is made with a specification; at the destination without, since the package
/// brings it.
public final class WorkloadGuest: Guest {
    public static let machineTypeName = "postcopy-workload-1"
    public static let blockName = "workload.ram"
    private static let deviceName = "test-workload"
    private static let deviceVersion: UInt32 = 1
    /// Section ids are the writer's choice; the runtime's RAM section has a small one.
    private static let deviceSection: UInt32 = 0x574C

    public let ram: GuestRAM
    private let current: Mutex<Workload?>
    private let lostMemory = Mutex<LostMemoryWatch?>(nil)

    /// A guest that waits for the state of another.
    public init(ram: GuestRAM) {
        self.ram = ram
        current = Mutex(nil)
    }

    /// A guest whose workload can be filled and started.
    /// - Throws: what `Workload.init` throws.
    public init(
        ram: GuestRAM, specification: WorkloadSpecification
    ) throws(WorkloadError) {
        self.ram = ram
        current = Mutex(try Workload(specification: specification, ram: ram))
    }

    /// Memory for such a guest.
    /// - Throws: `GeometryError` for a length that is no multiple of the page; `RAMError`.
    public static func makeRAM(
        lengthBytes: UInt64, page: PageSize, backing: RAMBacking
    ) throws -> GuestRAM {
        let geometry = try BlockGeometry(
            name: blockName, lengthBytes: lengthBytes, hostPage: page)
        return try GuestRAM(geometry, backing: backing)
    }

    /// The workload, or `nil` at a destination that has not loaded its devices.
    public var workload: Workload? { current.withLock { $0 } }

    public var machineType: String { Self.machineTypeName }
    public var memory: [GuestRAM] { [ram] }
    public var vcpuThreads: [Int32] { workload?.vcpuThreadIDs ?? [] }

    /// The vCPUs touch memory by instructions of user mode and never hand it to a system call.
    public var faultOrigin: FaultOrigin { .userOnly }

    public func pause() { workload?.pause() }
    public func resume() { workload?.resume() }
    public func throttle(percent: Int) { workload?.throttle(percent: percent) }

    /// Ends the vCPUs: those that wait for a page find zeros in its stead, and go no further than that
    /// step.
    public func memoryLost(_ missing: [MissingPages]) {
        // Without a watch the process ends at the first page that is touched, as it must.
        let watch = try? LostMemoryWatch(ram)
        lostMemory.withLock { $0 = watch }
        workload?.dismiss()
    }

    public func saveDevices() -> [UInt8] {
        guard let workload else { return [] }
        var sections: [UInt8] = []
        DeviceSection(
            id: Self.deviceSection, name: Self.deviceName, instance: 0,
            version: Self.deviceVersion, state: workload.saveState().encoded()
        ).encode(to: &sections)
        return sections
    }

    public func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        guard workload == nil else {
            throw GuestError("the workload was loaded before; start a new destination")
        }
        let state = try Self.state(in: sections)
        let ours = ram.geometry.lengthBytes
        guard state.specification.memoryBytes == ours else {
            throw GuestError(
                "the workload has \(state.specification.memoryBytes) bytes of memory, this side "
                    + "\(ours): give both sides the same --memory")
        }
        do throws(WorkloadError) {
            let workload = try Workload(specification: state.specification, ram: ram)
            try workload.restore(state)
            current.withLock { $0 = workload }
        } catch {
            throw GuestError(error.description)
        }
    }

    /// The state of the one device of ours; devices of other names are passed over.
    private static func state(in sections: [UInt8]) throws(GuestError) -> WorkloadState {
        var start = 0
        while start < sections.count {
            let section: DeviceSection
            do throws(WireError) {
                (section, start) = try DeviceSection.decode(
                    sections.span, in: start..<sections.count, at: 0)
            } catch {
                throw GuestError("device state: \(error)")
            }
            guard section.name == deviceName else { continue }
            guard section.version == deviceVersion else {
                throw GuestError(
                    "device '\(deviceName)' has version \(section.version), this side knows "
                        + "\(deviceVersion): run the same postcopy at both sides")
            }
            do throws(WorkloadError) {
                return try WorkloadState(decoding: section.state.span)
            } catch {
                throw GuestError("device '\(deviceName)': \(error)")
            }
        }
        throw GuestError("the package holds no device '\(deviceName)'")
    }
}
