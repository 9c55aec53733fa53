internal import CShims
internal import PageModel

/// What each way to a userfaultfd answers: `nil` where it gives one.
package struct UserfaultfdProbe: Equatable, Sendable {
    package let device: Errno?
    /// Whether the kernel has the device, wherever a node names it.
    package let isDeviceKnown: Bool
    package let systemCall: Errno?
    package let userModeOnly: Errno?
    /// A filter would end the process for the system call, which was not made then.
    package let isSystemCallFatal: Bool
    /// Why neither device nor system call give one; `nil` where one does.
    package let refusal: UserfaultfdRefusal?
    /// The features of the kernel; `nil` where no way leads to one.
    package let features: UInt64?
    /// What placing a missing page answers; `nil` where it was placed, or nothing to place it by is had.
    package let placing: Errno?

    package init(
        device: Errno?, isDeviceKnown: Bool = true, systemCall: Errno?, userModeOnly: Errno?,
        isSystemCallFatal: Bool = false, refusal: UserfaultfdRefusal?, features: UInt64?,
        placing: Errno? = nil
    ) {
        self.device = device
        self.isDeviceKnown = isDeviceKnown
        self.systemCall = systemCall
        self.userModeOnly = userModeOnly
        self.isSystemCallFatal = isSystemCallFatal
        self.refusal = refusal
        self.features = features
        self.placing = placing
    }

    package static func probe() -> UserfaultfdProbe {
        let isFatal = pc_probe_is_fatal(PC_PROBE_USERFAULTFD) == 1
        var features: UInt64?
        var placing: Errno?
        func refusal(_ raw: Int32) -> Errno? {
            guard raw >= 0 else { return Errno(rawValue: -raw) }
            let owner = FileDescriptor(owning: raw)
            var offered: UInt64 = 0
            guard unsafe pc_uffd_handshake(owner.raw, 0, &offered) == 0 else { return nil }
            features = offered
            do throws(Errno) { try placePage(by: owner) } catch { placing = error }
            return nil
        }
        let device = refusal(pc_uffd_open_device())
        let systemCall = isFatal ? .noSystemCall : refusal(pc_uffd_open_syscall(0))
        let userModeOnly = isFatal ? .noSystemCall : refusal(pc_uffd_open_syscall(1))
        var both: UserfaultfdRefusal?
        if let device, let systemCall {
            both = .classify(device: device, systemCall: systemCall, userModeOnly: userModeOnly)
        }
        return UserfaultfdProbe(
            device: device, isDeviceKnown: DeviceNode.isKnown("userfaultfd"),
            systemCall: systemCall, userModeOnly: userModeOnly, isSystemCallFatal: isFatal,
            refusal: both, features: features, placing: placing)
    }

    /// Has a page of fresh memory miss, and places it.
    private static func placePage(by uffd: borrowing FileDescriptor) throws(Errno) {
        let length = HostMemory.pageSize.bytes
        let page = UInt64(try Errno.check(pc_map(-1, length, length)))
        defer { _ = pc_unmap(page, length) }
        var calls: UInt64 = 0
        try Errno.check(
            unsafe pc_uffd_register(
                uffd.raw, page, length, UInt64(PC_UFFD_MODE_MISSING.rawValue), &calls))
        try Errno.check(pc_uffd_zeropage(uffd.raw, page, length))
    }

    /// Why the system call gives no faults of the kernel; `nil` where it does.
    package func systemCallCause(_ confinement: Confinement) -> UserfaultfdRefusal.Cause? {
        guard let systemCall else { return nil }
        return cause(of: systemCall, confinement)
    }

    /// Why the system call does not even give faults of user mode; `nil` where it does.
    package func userModeCause(_ confinement: Confinement) -> UserfaultfdRefusal.Cause? {
        guard let userModeOnly else { return nil }
        return cause(of: userModeOnly, confinement)
    }

    private func cause(of error: Errno, _ confinement: Confinement) -> UserfaultfdRefusal.Cause {
        if isSystemCallFatal { return .seccomp }
        return UserfaultfdRefusal.cause(
            device: device ?? .noEntry, systemCall: error, userModeOnly: userModeOnly,
            isUserModeGranted: userModeOnly == nil, filtered: confinement.isFiltered,
            privileged: confinement.has(.trace))
    }
}

/// Whether writes to memory can be tracked as a precopy does it.
package enum TrackingProbe: Equatable, Sendable {
    case works
    case refused(TrackerRefusal)
    /// What was reported is not what was written.
    case wrong(found: [Range<Int>])

    /// Protects some pages, writes to one, and asks which were written.
    package static func probe(_ faults: UserfaultfdProbe) -> TrackingProbe {
        // The tracker would make the system call that ends this process.
        if faults.isSystemCallFatal, let refusal = faults.refusal {
            return .refused(.opening(refusal))
        }
        do {
            let page = HostMemory.pageSize
            let geometry = try BlockGeometry(
                name: "doctor", lengthBytes: 8 * page.bytes, hostPage: page)
            let ram = try GuestRAM(geometry, backing: .anonymous)
            let tracker = WriteProtectTracker([ram])
            try tracker.start()
            defer { tracker.stop() }
            let block = BlockIndex(rawValue: 0)
            _ = try tracker.sync(block, into: DirtyBitmap(block: geometry, allDirty: false))
            ram.storeWord(1, at: 3 * page.bytes)
            let dirty = DirtyBitmap(block: geometry, allDirty: false)
            _ = try tracker.sync(block, into: dirty)
            var found: [Range<Int>] = []
            while let run = dirty.takeRun(from: 0, countMax: .max) { found.append(run) }
            let scale = Int(page.bytes / PageSize.target.bytes)
            return found == [3 * scale..<4 * scale] ? .works : .wrong(found: found)
        } catch let refusal as TrackerRefusal {
            return .refused(refusal)
        } catch {
            return .refused(TrackerRefusal("write-protect tracking: \(error)"))
        }
    }
}

/// Whether the kernel tells when a thread of this process met a page fault.
package struct FaultEventProbe: Equatable, Sendable {
    package let error: Errno?
    package let isFatal: Bool
    /// `kernel.perf_event_paranoid`; `nil` when /proc does not say.
    package let paranoia: Int?

    package init(error: Errno?, isFatal: Bool = false, paranoia: Int?) {
        self.error = error
        self.isFatal = isFatal
        self.paranoia = paranoia
    }

    package static func probe() -> FaultEventProbe {
        let isFatal = pc_probe_is_fatal(PC_PROBE_EVENTS) == 1
        let text = SystemText.read("/proc/sys/kernel/perf_event_paranoid")
        return FaultEventProbe(
            error: isFatal ? .noSystemCall : tryClock(), isFatal: isFatal,
            paranoia: text.flatMap { Int($0.prefix { !$0.isNewline }) })
    }

    /// Has a fault of this thread timed, and answers what kept it from that.
    private static func tryClock() -> Errno? {
        let clock = FaultClock(threads: [currentThreadID()])
        if let refusal = clock.refusal { return refusal.error }
        guard
            let block = try? BlockGeometry(
                name: "doctor", lengthBytes: faultsTried * HostMemory.pageSize.bytes,
                hostPage: HostMemory.pageSize),
            let ram = try? GuestRAM(block, backing: .anonymous)
        else { return .noMemory }
        ram.avoidHugePages()
        let isTimed = (0..<block.hostPageCount).contains { index in
            let page = HostPageIndex(rawValue: index)
            ram.storeWord(1, at: block.offset(of: page).rawValue)
            return clock.began(
                thread: currentThreadID(), in: ram.addresses(of: page), before: Monotonic.now())
                != nil
        }
        // A clock that can be had and times nothing is one of no use.
        return isTimed ? nil : .noSuchDevice
    }

    /// This thread does not sleep in its fault: another one, of code that it runs for the first time,
    /// may come behind it. Not eight times.
    private static let faultsTried: UInt64 = 8
}

/// Whether an io_uring can be had.
package struct RingProbe: Equatable, Sendable {
    package let error: Errno?
    package let isFatal: Bool
    /// `kernel.io_uring_disabled`: 0 for nobody, 1 for those without privilege, 2 for all.
    package let disabled: UInt64?

    package init(error: Errno?, isFatal: Bool = false, disabled: UInt64?) {
        self.error = error
        self.isFatal = isFatal
        self.disabled = disabled
    }

    package static func probe() -> RingProbe {
        let isFatal = pc_probe_is_fatal(PC_PROBE_RING) == 1
        var error: Errno? = isFatal ? .noSystemCall : nil
        if !isFatal {
            do throws(Errno) { _ = try Ring(entries: 4) } catch let refusal { error = refusal }
        }
        return RingProbe(
            error: error, isFatal: isFatal,
            disabled: SystemText.number("/proc/sys/kernel/io_uring_disabled"))
    }
}
