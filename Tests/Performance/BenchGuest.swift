import LinuxKernel
import PageModel
import PostcopyRuntime

/// A guest of one block whose only vCPU is started by the benchmark.
final class BenchGuest: Guest {
    let machineType = "postcopy-bench-1"
    let memory: [GuestRAM]
    let vcpuThreads: [Int32] = []
    let faultOrigin = FaultOrigin.userOnly
    let started: EventFlag

    init(memoryBytes: UInt64) throws {
        let geometry = try BlockGeometry(
            name: "bench.ram", lengthBytes: memoryBytes, hostPage: HostMemory.pageSize)
        memory = [try GuestRAM(geometry, backing: .anonymous)]
        started = try EventFlag()
    }

    var ram: GuestRAM { memory[0] }

    func pause() {}
    func resume() { started.raise() }
    func saveDevices() -> [UInt8] { [] }
    func loadDevices(_ sections: [UInt8]) throws(GuestError) {}
}
