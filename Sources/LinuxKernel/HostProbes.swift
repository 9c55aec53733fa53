internal import CShims
internal import Glibc
internal import PageModel

/// What this host allows, found out by trying it in this process. Nothing of that is left behind.
package struct HostProbes: Equatable, Sendable {
    package let system: SystemProbe
    package let faults: UserfaultfdProbe
    package let tracking: TrackingProbe
    package let ring: RingProbe
    package let memory: MemoryProbe
    package let machine: KVMProbe
    package let faultEvents: FaultEventProbe
    package let sockets: SocketProbe
    package let confinement: Confinement

    package init(
        system: SystemProbe, faults: UserfaultfdProbe, tracking: TrackingProbe, ring: RingProbe,
        memory: MemoryProbe, machine: KVMProbe, faultEvents: FaultEventProbe, sockets: SocketProbe,
        confinement: Confinement
    ) {
        self.system = system
        self.faults = faults
        self.tracking = tracking
        self.ring = ring
        self.memory = memory
        self.machine = machine
        self.faultEvents = faultEvents
        self.sockets = sockets
        self.confinement = confinement
    }

    /// Takes some milliseconds.
    /// - Parameter folder: where a unix socket may be made for a moment.
    package static func probe(folder: String) -> HostProbes {
        let faults = UserfaultfdProbe.probe()
        return HostProbes(
            system: .probe(), faults: faults, tracking: .probe(faults), ring: .probe(),
            memory: .probe(), machine: .probe(), faultEvents: .probe(),
            sockets: .probe(folder: folder), confinement: .probe())
    }
}

/// Kernel, processor and clock.
package struct SystemProbe: Equatable, Sendable {
    package let kernel: String
    package let architecture: String
    /// Of `CLOCK_MONOTONIC`.
    package let clockResolutionNanoseconds: UInt64
    /// What the kernel counts time by; `nil` when it does not say.
    package let clockSource: String?

    package init(
        kernel: String, architecture: String, clockResolutionNanoseconds: UInt64,
        clockSource: String?
    ) {
        self.kernel = kernel
        self.architecture = architecture
        self.clockResolutionNanoseconds = clockResolutionNanoseconds
        self.clockSource = clockSource
    }

    package static func probe() -> SystemProbe {
        var name = utsname()
        _ = unsafe uname(&name)
        func text(_ bytes: some Any) -> String {
            unsafe withUnsafeBytes(of: bytes) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
        }
        var resolution = timespec()
        _ = unsafe clock_getres(CLOCK_MONOTONIC, &resolution)
        let source = SystemText.read(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource")
        return SystemProbe(
            kernel: text(name.release), architecture: text(name.machine),
            clockResolutionNanoseconds: UInt64(resolution.tv_sec) * 1_000_000_000
                + UInt64(resolution.tv_nsec),
            clockSource: source.map { String($0.prefix { !$0.isNewline }) })
    }
}

/// Whether a KVM machine can be had, and its writes be logged.
package enum KVMProbe: Equatable, Sendable {
    case works(version: Int32)
    case refused(KVMRefusal)
    /// There are machines, and no log of their writes.
    case withoutLog(version: Int32, TrackerRefusal)

    /// Makes a machine with a slot of memory, and has its dirty log told and cleared.
    package static func probe() -> KVMProbe {
        do throws(KVMRefusal) {
            let version = try version()
            let machine = try KVMMachine.open()
            do throws(TrackerRefusal) {
                try tryLog(of: machine)
                return .works(version: version)
            } catch {
                return .withoutLog(version: version, error)
            }
        } catch {
            return .refused(error)
        }
    }

    private static func version() throws(KVMRefusal) -> Int32 {
        do throws(Errno) {
            let device = FileDescriptor(owning: try Errno.check(pc_kvm_open()))
            return try Errno.check(pc_probe_kvm_version(device.raw))
        } catch {
            throw KVMRefusal(error)
        }
    }

    private static func tryLog(of machine: borrowing KVMMachine) throws(TrackerRefusal) {
        do {
            let page = HostMemory.pageSize
            let geometry = try BlockGeometry(
                name: "doctor", lengthBytes: 64 * page.bytes, hostPage: page)
            let ram = try GuestRAM(geometry, backing: .anonymous)
            let block = BlockIndex(rawValue: 0)
            let slot = KVMSlot(number: 0, of: ram, block: block, guestPhysicalAddress: 0)
            try machine.map(slot)
            let log = try KVMDirtyLog(
                machine: machine.rawDescriptor, blocks: [geometry], slots: [slot])
            try log.check()
            try log.start()
            defer { log.stop() }
            // Twice: whatever the first log says was written is cleared before the second.
            for isFirst in [true, false] {
                let dirty = DirtyBitmap(block: geometry, allDirty: false)
                let count = try log.sync(block, into: dirty)
                try log.clear(block, 0..<geometry.targetPageCount)
                guard isFirst || count == 0 else {
                    throw TrackerRefusal("KVM's dirty log: \(count) pages are not cleared by it")
                }
            }
        } catch let refusal as TrackerRefusal {
            throw refusal
        } catch {
            throw TrackerRefusal("KVM's dirty log: \(error)")
        }
    }
}

/// Whether two sides of a migration inside this host meet.
package struct SocketProbe: Equatable, Sendable {
    package let tcp: ChannelError?
    package let unix: ChannelError?

    package init(tcp: ChannelError?, unix: ChannelError?) {
        self.tcp = tcp
        self.unix = unix
    }

    package static func probe(folder: String) -> SocketProbe {
        SocketProbe(
            tcp: refusal(.tcp(host: "127.0.0.1", port: 0)),
            unix: refusal(.unix(path: "\(folder)/postcopy-doctor-\(getpid()).sock")))
    }

    /// Inside one host a connection is there at once, unless a filter drops it.
    private static let connectNanosecondsMax: UInt64 = 1_000_000_000

    private static func refusal(_ address: ChannelAddress) -> ChannelError? {
        do throws(ChannelError) {
            let listener = try Listener(at: address, isPrivate: true)
            // A loopback that is down can be listened on, and nobody comes there.
            _ = try StreamSocket.connect(
                to: listener.address, timeoutNanoseconds: connectNanosecondsMax)
            return nil
        } catch {
            return error
        }
    }
}
