public import LinuxKernel
internal import PageModel
public import PostcopyRuntime
public import StreamWire
internal import Synchronization

public final class ParkedMachine: Guest {
    public let machineType: String
    public let streamIdentity: StreamIdentity
    public let memory: [GuestRAM]
    private let devices = Mutex<[UInt8]>([])
    public init(describedBy introduction: StreamIntroduction) throws {
        machineType = introduction.machineType
        streamIdentity = StreamIdentity(
            configuration: introduction.configuration, ramSection: introduction.ramSection)
        memory = try introduction.blocks.map { block in
            try GuestRAM(
                try BlockGeometry(
                    name: block.name, lengthBytes: block.usedBytes, hostPage: block.hostPage),
                backing: .anonymous, allowsLargerHostPages: true)
        }
    }
    public var vcpuThreads: [Int32] { [] }
    public var faultOrigin: FaultOrigin { .userOnly }
    public func pause() {}
    public func resume() {}
    public func saveDevices() -> [UInt8] { devices.withLock { $0 } }
    public func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        devices.withLock { $0 = sections }
    }
}
