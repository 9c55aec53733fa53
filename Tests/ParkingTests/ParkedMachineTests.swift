import LinuxKernel
import Parking
import Postcopy
import StreamWire
import Synchronization
import Testing

@Suite("A parked machine")
struct ParkedMachineTests {
    private static let block = StreamIntroduction.Block(
        name: "pc.ram", usedBytes: 4 << 20, hostPage: .size2MiB)

    private func make(
        _ blocks: [StreamIntroduction.Block] = [block], machineType: String = "m",
        configuration: [UInt8] = [], origin: String = ""
    ) throws(ParkError) -> ParkedMachine {
        try ParkedMachine(
            describedBy: StreamIntroduction(
                machineType: machineType, configuration: configuration, pageSizeSummary: nil,
                ramSection: 1, blocks: blocks), origin: origin)
    }

    @Test("it is a guest that keeps what it is given and never runs")
    func guest() throws {
        let machine = try make()
        #expect(machine.vcpuThreads.isEmpty)
        #expect(machine.faultOrigin == .userOnly)
        #expect(machine.memory.map(\.geometry.hostPage) == [.size2MiB])
        #expect(machine.memory.allSatisfy { $0.placingUnit == HostMemory.pageSize })
        #expect(machine.saveDevices() == [])
        try machine.loadDevices([1, 2, 3])
        try machine.loadDevices([4])
        #expect(machine.saveDevices() == [4])
        #expect(!machine.isResumed)
        machine.resume()
        #expect(machine.isResumed)
        machine.pause()
        #expect(!machine.isResumed)
        #expect(throws: GuestError.self) {
            try machine.loadDevices([UInt8](repeating: 0, count: 64 << 20 + 1))
        }
        #expect(machine.saveDevices() == [4])
    }

    @Test("its tracker finds nothing, for nobody writes")
    func tracker() throws {
        let machine = try make()
        let tracker = machine.makeDirtyTracker(ignoring: [])
        try tracker.check()
        try tracker.start()
        let dirty = DirtyBitmap(block: machine.memory[0].geometry, allDirty: false)
        let block = BlockIndex(rawValue: 0)
        machine.memory[0].storeWord(1, at: 0)
        #expect(try tracker.sync(block, into: dirty) == 0)
        try tracker.clear(block, 0..<512)
        try tracker.forget(block, 0..<512)
        tracker.stop()
        #expect(dirty.dirtyCount == 0)
    }

    @Test("a machine that this host has no memory for is refused with both numbers")
    func tooLarge() throws {
        let huge = StreamIntroduction.Block(name: "a", usedBytes: 1 << 46, hostPage: .target)
        guard
            case .tooLittleMemory(let needed, let available)? = refusal({
                () throws(ParkError) in try make([huge, Self.block])
            })
        else {
            Issue.record(
                "\(String(describing: refusal { () throws(ParkError) in try make([huge]) }))")
            return
        }
        #expect(needed == 1 << 46 + 4 << 20)
        #expect(available > 0 && available < 1 << 46)
        let error = ParkError.tooLittleMemory(neededBytes: 9, availableBytes: 8)
        #expect("\(error)".contains("RAM blocks of 9 bytes, 8 are available here"))
        // Lengths are a peer's: their sum may be more than a number holds.
        let wide = (0..<4).map {
            StreamIntroduction.Block(name: "\($0)", usedBytes: 1 << 63, hostPage: .target)
        }
        guard case .tooLittleMemory(.max, _)? = refusal({ () throws(ParkError) in try make(wide) })
        else {
            Issue.record(
                "\(String(describing: refusal { () throws(ParkError) in try make(wide) }))")
            return
        }
    }

    @Test("what could not be written is refused before it is taken")
    func limits() throws {
        func refused(_ body: () throws(ParkError) -> ParkedMachine) -> String {
            refusal(body).map { "\($0)" } ?? "accepted"
        }
        #expect(refusal { () throws(ParkError) in try make([]) } == .noBlocks)
        #expect(
            refusal { () throws(ParkError) in try make([Self.block, Self.block]) }
                == .repeatedBlock("pc.ram"))
        let many = (0...256).map {
            StreamIntroduction.Block(name: "\($0)", usedBytes: 4096, hostPage: .target)
        }
        #expect(
            refused { () throws(ParkError) in try make(many) }
                .contains("257 RAM blocks cannot be parked, 256 is the most"))
        _ = try make(Array(many.dropLast()))
        let long = String(repeating: "l", count: 1_025)
        #expect(
            refused { () throws(ParkError) in try make(machineType: long) }
                .contains("1025 bytes of machine type cannot be parked, 255"))
        #expect(
            refused { () throws(ParkError) in try make(origin: long) }
                .contains("1025 bytes of origin cannot be parked, 1024"))
        let bytes = [UInt8](repeating: 0, count: 128 << 10 + 1)
        #expect(
            refused { () throws(ParkError) in try make(configuration: bytes) }
                .contains("131073 bytes of configuration"))
        let odd = StreamIntroduction.Block(name: "a", usedBytes: 4097, hostPage: .target)
        #expect(
            refusal { () throws(ParkError) in try make([odd]) }
                == .geometry(.notWholePages(name: "a", lengthBytes: 4097, pageBytes: 4096)))
    }

    /// The largest that a manifest can become must be readable.
    @Test("the longest names and configuration are kept as well")
    func longest() throws {
        let folder = try TestFolder()
        let blocks = (0..<256).map { index in
            let name = String(repeating: "\u{0}", count: 253) + String(index + 256, radix: 36)
            return StreamIntroduction.Block(name: name, usedBytes: 4096, hostPage: .target)
        }
        let machine = try ParkedMachine(
            describedBy: StreamIntroduction(
                machineType: String(repeating: "\u{0}", count: 255),
                configuration: [UInt8](repeating: 0xff, count: 128 << 10), pageSizeSummary: nil,
                ramSection: .max, blocks: blocks),
            origin: String(repeating: "\u{0}", count: 1_024))
        try park(machine, at: folder.place)
        let again = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(again.memory.map(\.geometry.name) == blocks.map(\.name))
        #expect(again.streamIdentity == machine.streamIdentity)
        #expect(again.origin == machine.origin && again.machineType == machine.machineType)
    }

    struct Way: CustomTestStringConvertible, Sendable {
        var preempt: Bool
        var precopies: Bool
        var backing = RAMBacking.anonymous
        var testDescription: String {
            "preempt \(preempt), precopy \(precopies), into \(backing)"
        }
    }

    @Test(
        "from one folder over a wire into another one",
        .enabled(if: (try? Userfaultfd.open(.userOnly)) != nil, "needs a userfaultfd"),
        arguments: [
            Way(preempt: true, precopies: false), Way(preempt: false, precopies: false),
            Way(preempt: true, precopies: true, backing: .memfd),
            Way(preempt: false, precopies: true),
        ])
    func passedOn(way: Way) throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let source = try ParkDirectory(opening: folder.place).makeMachine()
        let destination = try ParkedMachine(
            describedBy: StreamIntroduction(
                machineType: source.machineType,
                configuration: source.streamIdentity.configuration, pageSizeSummary: nil,
                ramSection: source.streamIdentity.ramSection, blocks: SampleMachine.blocks),
            origin: source.origin, backing: way.backing)
        var options = MigrationOptions()
        options.preempt = way.preempt
        if way.precopies { options.precopy = PrecopyOptions() }
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        let address = listener.address
        let receiving = try MigrationDestination(guest: destination, options: options)
        let sending = try MigrationSource(guest: source, options: options)
        try sending.start(to: address)
        if !way.precopies { sending.startPostcopy() }
        let received = try receiving.run(on: listener)
        let sent = try sending.wait()
        #expect(sent.status == .completed, "\(sent.problem ?? "")")
        #expect(received.status == .completed, "\(received.problem ?? "")")
        #expect(destination.isResumed && !source.isResumed)
        #expect(SampleMachine.differences(destination) == [])
        try park(destination, at: folder.path + "/second")
        let again = try ParkDirectory(opening: folder.path + "/second").makeMachine()
        #expect(SampleMachine.differences(again) == [])
    }

    @Test("memory that is read from files is no destination's")
    func refusedDestination() throws {
        let folder = try TestFolder()
        try park(SampleMachine.make(), at: folder.place)
        let machine = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(throws: ConfigurationError.contentOfFile("pc.ram")) {
            try MigrationDestination(guest: machine)
        }
    }
}
