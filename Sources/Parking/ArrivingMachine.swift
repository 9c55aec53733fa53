internal import Postcopy

/// A machine as the destination that takes it sees it: what is done at each of its steps.
final class ArrivingMachine: Guest {
    private let machine: ParkedMachine
    private let readers: PageReaders?
    private let whenLoaded: @Sendable () throws(GuestError) -> Void
    private let whenHere: @Sendable () -> Void
    private let whenOurs: @Sendable () -> Void
    private let whenLost: @Sendable () -> Void

    /// - Parameter readers: threads that read its memory from the moment it would run.
    /// - Parameter whenLoaded: done when its devices are here, before the host that it comes from is
    ///   told so.
    /// - Parameter whenOurs: done when that host was told that the machine goes on here.
    /// - Parameter whenLost: done when pages that are missing will not come any more.
    /// - Parameter whenHere: done when its memory is here, before that host is told that it may forget
    ///   it.
    init(
        _ machine: ParkedMachine, readers: PageReaders? = nil,
        whenHere: @escaping @Sendable () -> Void = {},
        whenOurs: @escaping @Sendable () -> Void = {},
        whenLost: @escaping @Sendable () -> Void = {},
        whenLoaded: @escaping @Sendable () throws(GuestError) -> Void = {}
    ) {
        self.machine = machine
        self.readers = readers
        self.whenLoaded = whenLoaded
        self.whenHere = whenHere
        self.whenOurs = whenOurs
        self.whenLost = whenLost
    }

    var machineType: String { machine.machineType }
    var streamIdentity: StreamIdentity { machine.streamIdentity }
    var memory: [GuestRAM] { machine.memory }
    var vcpuThreads: [Int32] { readers?.threadIDs ?? [] }
    var faultOrigin: FaultOrigin { machine.faultOrigin }
    func pause() { machine.pause() }
    func saveDevices() -> [UInt8] { machine.saveDevices() }
    func memoryArrived() { whenHere() }

    func memoryLost(_ missing: [MissingPages]) {
        whenLost()
        readers?.memoryLost()
    }

    func resume() {
        machine.resume()
        readers?.begin()
        whenOurs()
    }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        try machine.loadDevices(sections)
        try whenLoaded()
    }
}
