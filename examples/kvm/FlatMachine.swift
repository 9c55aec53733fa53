import KVMGuest
import Postcopy
import Synchronization

/// A virtual machine of up to four vCPUs, each with two ports, and a low and a high block of memory.
///
/// At the source it is made and booted; at the destination it is only made, and has no vCPU before the
/// state of some has come.
final class FlatMachine: Guest {
    static let vcpusMax = 4

    let machineType = "kvm-example-1"
    let memory: [GuestRAM]
    /// KVM touches the memory of its guest in the kernel.
    let faultOrigin = FaultOrigin.userAndKernel
    private let kvm: KVMMachine
    private let slots: [KVMSlot]
    private let chunkBytes: UInt64
    private let vcpus = Mutex<[(thread: VCPUThread, ports: Ports)]>([])
    private let news: EventFlag

    /// - Parameter chunkBytes: what of KVM's dirty log is cleared at once, while vCPUs wait.
    init(memoryBytes: UInt64, chunkBytes: UInt64 = 1 << 20) throws {
        let places = [("low", 0), ("high", UInt64(GUEST_HIGH_BLOCK_AT))]
        let memory = try places.map { name, _ in
            let block = try BlockGeometry(
                name: name, lengthBytes: memoryBytes / 2, hostPage: HostMemory.pageSize)
            return try GuestRAM(block, backing: .anonymous)
        }
        slots = places.indices.map { index in
            KVMSlot(
                number: UInt32(index), guestPhysicalAddress: places[index].1,
                block: BlockIndex(rawValue: index), offset: RAMOffset(rawValue: 0),
                lengthBytes: memoryBytes / 2, hostAddress: memory[index].address)
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
        memory[0].write(WorkPlan.image.span, at: RAMOffset(rawValue: UInt64(GUEST_IMAGE_AT)))
        let plan = WorkPlan(vcpus: count, blockBytes: memory[0].geometry.lengthBytes)
        for number in 0..<count {
            let vcpu = try kvm.makeVCPU(id: UInt32(number))
            try vcpu.setUserMode(pageTableAddress: UInt64(GUEST_PAGE_TABLE_AT))
            try vcpu.setRegisters(plan.registers(of: number, idleTurns: idleTurns))
            try add(vcpu, number, Ports(news: news))
        }
    }

    private func add(_ vcpu: consuming KVMVCPU, _ number: Int, _ ports: Ports) throws(Errno) {
        let thread = try VCPUThread(vcpu, name: "vcpu\(number)") { ports.take($0) }
        vcpus.withLock { $0.append((thread, ports)) }
    }

    private var threads: [VCPUThread] { vcpus.withLock { $0.map(\.thread) } }
    /// What the guest said, by vCPU.
    var ports: [Ports] { vcpus.withLock { $0.map(\.ports) } }
    var vcpuThreads: [Int32] { threads.map(\.threadID) }

    func pause() { for thread in threads { thread.pause() } }
    func resume() { for thread in threads { thread.resume() } }
    /// The pages that vCPUs wait for will not come.
    func memoryLost(_ missing: [MissingPages]) { pause() }

    /// Ends the vCPUs, for good.
    func end() {
        for thread in threads { thread.end() }
        vcpus.withLock { $0 = [] }
    }

    func makeDirtyTracker(
        ignoring ignored: Set<BlockIndex>
    ) throws(TrackerRefusal) -> any DirtyTracker {
        try KVMDirtyLog(
            machine: kvm.rawDescriptor, blocks: memory.map(\.geometry),
            slots: slots.filter { !ignored.contains($0.block) }, chunkBytes: chunkBytes)
    }

    /// A vCPU that cannot be read is left out, and refused where the rest is loaded.
    func saveDevices() -> [UInt8] {
        var devices: [DeviceState] = []
        for (number, (thread, ports)) in vcpus.withLock({ $0 }).enumerated() {
            let (instance, said) = (UInt32(number), ports.state.encoded())
            guard let state = try? thread.state() else { continue }
            devices.append(DeviceState(name: "vcpu", instance: instance, bytes: state.encoded()))
            devices.append(DeviceState(name: "ports", instance: instance, bytes: said))
        }
        return DeviceState.sections(of: devices)
    }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        let devices = try DeviceState.devices(in: sections)
        let count = devices.count / 2
        guard threads.isEmpty, (1...Self.vcpusMax).contains(count), devices.count == count * 2
        else { throw GuestError("a new machine takes 1 to \(Self.vcpusMax) vCPUs with ports") }
        for number in 0..<count {
            do { try load(devices[number * 2], devices[number * 2 + 1], number) } catch {
                end()
                throw GuestError("vCPU \(number): \(error)")
            }
        }
    }

    private func load(_ state: DeviceState, _ said: DeviceState, _ number: Int) throws {
        for (device, name) in [(state, "vcpu"), (said, "ports")] {
            guard (device.name, device.version, device.instance) == (name, 1, UInt32(number))
            else { throw GuestError("'\(device.name)' \(device.instance) stands in its place") }
        }
        guard let said = Ports.State(decoding: said.bytes) else {
            throw GuestError("its ports were in no such state")
        }
        let vcpu = try kvm.makeVCPU(id: UInt32(number))
        try vcpu.setState(try VCPUState(decoding: state.bytes))
        try add(vcpu, number, Ports(said, news: news))
    }

    /// Waits until each vCPU has gone through its memory so many times more.
    /// - Throws: when one does not, with what it met.
    func awaitRounds(_ rounds: UInt64) throws(GuestError) {
        let ends = ports.map { $0.state.lines + rounds }
        let deadline = Monotonic.now() + Self.patienceNanoseconds
        while zip(ports, ends).contains(where: { $0.state.lines < $1 }) {
            if let trouble = ports.compactMap(\.trouble).first { throw GuestError(trouble) }
            let now = Monotonic.now()
            guard now < deadline, news.wait(timeoutNanoseconds: deadline - now) else {
                throw GuestError("a vCPU says nothing any more")
            }
            news.clear()
        }
    }

    /// Many times a round through the largest memory, on a host that does much else.
    private static let patienceNanoseconds: UInt64 = 60_000_000_000

    var pageCount: Int { memory.reduce(0) { $0 + $1.geometry.targetPageCount } }

    /// Pages that are not as they must be, by how many each vCPU has done by its own register. Stopped.
    func wrongPages() throws -> [String] {
        let pagesDone = try threads.map { try $0.state().registers[.rbp] }
        let plan = WorkPlan(vcpus: pagesDone.count, blockBytes: memory[0].geometry.lengthBytes)
        return plan.wrongPages(of: memory, pagesDone: pagesDone)
    }
}
