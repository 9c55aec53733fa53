import KVMGuest
import Postcopy
import Synchronization

/// A virtual machine of up to four vCPUs, each with two ports, and a low and a high block of memory. At
/// the source it is booted; at the destination it gets its vCPUs with their state.
final class FlatMachine: Guest {
    let machineType = "kvm-example-1"
    let memory: [GuestRAM]
    /// KVM touches the memory of its guest in the kernel.
    let faultOrigin = FaultOrigin.userAndKernel
    private let kvm: KVMMachine
    private let slots: [KVMSlot]
    private let chunkBytes: UInt64
    private let threads = Mutex<[VCPUThread]>([])
    /// What the guest said, by vCPU.
    private let ports = Mutex<[Ports]>([])
    private let news: EventFlag

    /// - Parameter chunkBytes: what of KVM's dirty log is cleared at once, while vCPUs wait.
    init(memoryBytes: UInt64, chunkBytes: UInt64 = 1 << 20) throws {
        let (half, page) = (memoryBytes / 2, HostMemory.pageSize)
        let memory = try ["low", "high"].map { name in
            let block = try BlockGeometry(name: name, lengthBytes: half, hostPage: page)
            return try GuestRAM(block, backing: .anonymous)
        }
        slots = memory.indices.map { index in
            KVMSlot(
                number: UInt32(index), of: memory[index], block: BlockIndex(rawValue: index),
                guestPhysicalAddress: UInt64(index) * UInt64(GUEST_HIGH_BLOCK_AT))
        }
        self.memory = memory
        self.chunkBytes = chunkBytes
        kvm = try KVMMachine.open()
        news = try EventFlag()
        for slot in slots { try kvm.map(slot) }
    }

    /// Loads the guest and makes its vCPUs, which stand at its beginning.
    /// - Parameter idleTurns: of the loop behind each page: the more, the less the guest writes.
    func boot(vcpus count: Int, idleTurns: UInt64) throws {
        for (index, word) in WorkPlan.image.enumerated() {
            memory[0].storeWord(word, at: UInt64(GUEST_IMAGE_AT) + UInt64(index) * 8)
        }
        let plan = WorkPlan(vcpus: count, blockBytes: memory[0].geometry.lengthBytes)
        for number in 0..<count {
            let vcpu = try kvm.makeVCPU(id: UInt32(number))
            try vcpu.setUserMode(pageTableAddress: UInt64(GUEST_PAGE_TABLE_AT))
            try vcpu.setRegisters(plan.registers(of: number, idleTurns: idleTurns))
            try add(vcpu, Ports())
        }
    }

    private func add(_ vcpu: consuming KVMVCPU, _ ports: Ports) throws(Errno) {
        let number = said.count
        self.ports.withLock { $0.append(ports) }
        let thread = try VCPUThread(vcpu, name: "vcpu\(number)") { [self] exit in
            self.ports.withLock { $0[number].take(exit) }
            news.raise()
            return said[number].trouble == nil
        }
        threads.withLock { $0.append(thread) }
    }

    private var vcpus: [VCPUThread] { threads.withLock { $0 } }
    var vcpuThreads: [Int32] { vcpus.map(\.threadID) }
    var said: [Ports] { ports.withLock { $0 } }

    func resume() { for vcpu in vcpus { vcpu.resume() } }
    func pause() {
        for vcpu in vcpus { vcpu.requestPause() }
        for vcpu in vcpus { vcpu.pause() }
    }
    /// What they wait for comes no more: whoever meets the error would try that page again and again.
    func memoryLost(_ missing: [MissingPages]) { for vcpu in vcpus { vcpu.requestPause() } }

    /// Ends the vCPUs, for good.
    func end() {
        for vcpu in vcpus { vcpu.end() }
        threads.withLock { $0 = [] }
    }

    func makeDirtyTracker(
        ignoring ignored: Set<BlockIndex>
    ) throws(TrackerRefusal) -> any DirtyTracker {
        try KVMDirtyLog(
            machine: kvm.rawDescriptor, blocks: memory.map(\.geometry),
            slots: slots.filter { !ignored.contains($0.block) }, chunkBytes: chunkBytes)
    }

    /// A vCPU that cannot be read is left out, and the rest refused where it is loaded.
    func saveDevices() -> [UInt8] {
        var devices: [DeviceState] = []
        for (number, (vcpu, ports)) in zip(vcpus, said).enumerated() {
            let parts = [("vcpu", try? vcpu.state().encoded()), ("ports", ports.encoded())]
            for case (let name, .some(let bytes)) in parts {
                devices.append(DeviceState(name: name, instance: UInt32(number), bytes: bytes))
            }
        }
        return DeviceState.sections(of: devices)
    }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        let devices = try DeviceState.devices(in: sections)
        let names = devices.map { "\($0.name) \($0.instance) version \($0.version)" }
        let known = (0..<8).map { "\(["vcpu", "ports"][$0 % 2]) \($0 / 2) version 1" }
        guard vcpus.isEmpty, !names.isEmpty, names.count % 2 == 0, known.starts(with: names)
        else { throw GuestError("a new machine takes vCPUs with ports, not \(names)") }
        do {
            for number in 0..<devices.count / 2 {
                let vcpu = try kvm.makeVCPU(id: UInt32(number))
                try vcpu.setState(try VCPUState(decoding: devices[2 * number].bytes))
                try add(vcpu, Ports(decoding: devices[2 * number + 1].bytes))
            }
        } catch {
            end()
            throw GuestError("vCPUs and ports: \(error)")
        }
    }

    /// Waits until each vCPU has gone through its memory so many times more.
    /// - Throws: when one does not, with what it met.
    func awaitRounds(_ rounds: UInt64) throws(GuestError) {
        // Many times what it takes with the largest memory, on a host that does much else.
        let deadline = Monotonic.now() + 60_000_000_000
        let ends = said.map { $0.lines + rounds }
        while let late = zip(said, ends).first(where: { $0.lines < $1 })?.0 {
            let left = deadline - min(Monotonic.now(), deadline)
            guard late.trouble == nil, left > 0, news.wait(timeoutNanoseconds: left) else {
                throw GuestError(late.trouble ?? "a vCPU says nothing any more")
            }
            news.clear()
        }
    }

    /// Pages that are not as they must be, by how many each vCPU has done by its own register. Stopped.
    func wrongPages() throws -> [String] {
        let pagesDone = try vcpus.map { try $0.state().registers[.rbp] }
        let plan = WorkPlan(vcpus: pagesDone.count, blockBytes: memory[0].geometry.lengthBytes)
        return plan.wrongPages(of: memory, pagesDone: pagesDone)
    }
}
