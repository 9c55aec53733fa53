import FlightRecorder
import TestSupport

extension FaultLog {
    /// A log of both sides in which anything may stand anywhere.
    /// - Parameter instants: how large its instants may be.
    static func random(seed: UInt64, instants: UInt64 = 1 << 40) -> FaultLog {
        var random = SeededRandom(seed: seed)
        func instant() -> UInt64 {
            random.below(4) == 0 ? 0 : UInt64.random(in: 0..<instants, using: &random)
        }
        func side() -> FaultLog.Side {
            var side = FaultLog.Side()
            side.bootID = ["", "one", "two", "zwei ä\n"][random.below(4)]
            let statuses = [
                "active", "postcopy-active", "postcopy-paused", "postcopy-recover", "?",
            ]
            side.phases = (0..<random.below(6)).map { _ in
                FaultLog.Phase(status: statuses[random.below(5)], at: instant())
            }
            side.endedAt = instant()
            return side
        }
        var log = FaultLog()
        log.blocks = (0..<random.below(3)).map {
            FaultLog.Block(
                name: "b\($0)", lengthBytes: UInt64(random.below(1 << 20)),
                hostPageBytes: [0, 4096, 2 << 20][random.below(3)])
        }
        if random.below(5) > 0 {
            var destination = FaultLog.Destination()
            destination.side = side()
            destination.guestRunningAt = instant()
            destination.vcpuThreads = (0..<random.below(3)).map { _ in Int32(random.below(4)) }
            destination.threadNames = [1: "a<b>", -2: ""]
            destination.overlappedNanoseconds = instant()
            destination.lostWaits = instant()
            destination.lostPlacements = instant()
            for _ in 0..<random.below(24) {
                var wait = WaitRecord()
                (wait.began, wait.read, wait.requested) = (instant(), instant(), instant())
                (wait.firstByte, wait.placed, wait.ended) = (instant(), instant(), instant())
                wait.page = UInt64(random.below(6))
                wait.thread = Int32(truncatingIfNeeded: random.below(6) - 2)
                wait.block = UInt16(random.below(3))
                wait.flags = WaitFlags(rawValue: UInt16(random.below(128)))
                destination.waits.append(wait)
                var placement = PlacementRecord()
                (placement.at, placement.page) = (instant(), UInt64(random.below(600)))
                placement.count = UInt32(random.below(600))
                placement.block = UInt16(random.below(3))
                placement.isUrgent = UInt16(random.below(2))
                destination.placements.append(placement)
            }
            log.destination = destination
        }
        if random.below(5) > 0 {
            var source = FaultLog.Source()
            source.side = side()
            source.guestStoppedAt = instant()
            source.lostServices = instant()
            for _ in 0..<random.below(24) {
                var service = ServiceRecord()
                (service.received, service.begun) = (instant(), instant())
                (service.written, service.page) = (instant(), UInt64(random.below(6)))
                service.ahead = UInt32(random.below(3))
                service.block = UInt16(random.below(3))
                service.flags = ServiceFlags(rawValue: UInt16(random.below(32)))
                source.services.append(service)
            }
            log.source = source
        }
        return log
    }

    /// A log of one host with a block of 1 MiB, a vCPU whose thread is 10, and these records.
    static func made(
        _ waits: [WaitRecord], _ services: [ServiceRecord]? = [], phases: [Phase] = []
    ) -> FaultLog {
        var log = FaultLog()
        log.blocks = [Block(name: "ram", lengthBytes: 1 << 20, hostPageBytes: 4096)]
        var destination = FaultLog.Destination()
        destination.side.bootID = "here"
        destination.side.phases = phases
        destination.vcpuThreads = [10]
        destination.threadNames = [10: "vcpu", 11: "io"]
        destination.waits = waits
        log.destination = destination
        log.source = services.map {
            var source = FaultLog.Source()
            source.side.bootID = "here"
            source.services = $0
            return source
        }
        return log
    }

    /// What took the time of its waits.
    var causes: [DelayCause: UInt64] {
        let causes = FaultAnalysis(self).causes.sorted
        return Dictionary(uniqueKeysWithValues: causes.map { ($0.cause, $0.nanoseconds) })
    }

    /// The same of a log with these records.
    static func causes(
        _ waits: [WaitRecord], _ services: [ServiceRecord]?, phases: [Phase] = []
    ) -> [DelayCause: UInt64] {
        made(waits, services, phases: phases).causes
    }
}

extension WaitRecord {
    /// One of thread 10 for page 7.
    init(
        _ began: UInt64, read: UInt64 = 0, requested: UInt64 = 0, firstByte: UInt64 = 0,
        placed: UInt64 = 0, ended: UInt64, flags: WaitFlags = [.kernelTimed, .urgent],
        thread: Int32 = 10, page: UInt64 = 7
    ) {
        self.init()
        (self.began, self.read, self.requested) = (began, read, requested)
        (self.firstByte, self.placed, self.ended) = (firstByte, placed, ended)
        (self.flags, self.thread, self.page) = (flags, thread, page)
    }

    /// One that both sides recorded in full.
    static let whole = WaitRecord(
        100, read: 110, requested: 130, firstByte: 700, placed: 760, ended: 800)
}

extension ServiceRecord {
    /// One for page 7.
    init(
        _ received: UInt64, begun: UInt64, written: UInt64 = 0, flags: ServiceFlags = [],
        ahead: UInt32 = 0, page: UInt64 = 7
    ) {
        self.init()
        (self.received, self.begun, self.written) = (received, begun, written)
        (self.flags, self.ahead, self.page) = (flags, ahead, page)
    }
}
