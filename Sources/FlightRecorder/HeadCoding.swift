extension ByteWriter {
    mutating func blocks(_ blocks: [FaultLog.Block]) {
        number(UInt64(blocks.count))
        for block in blocks {
            text(block.name)
            number(block.lengthBytes)
            number(block.hostPageBytes)
        }
    }

    /// All but its records.
    mutating func head(of destination: FaultLog.Destination) {
        side(destination.side)
        number(destination.guestRunningAt)
        number(destination.overlappedNanoseconds)
        number(destination.lostWaits)
        number(destination.lostPlacements)
        number(UInt64(destination.vcpuThreads.count))
        for thread in destination.vcpuThreads { number(UInt64(UInt32(bitPattern: thread))) }
        number(UInt64(destination.threadNames.count))
        for (thread, name) in destination.threadNames.sorted(by: { $0.key < $1.key }) {
            number(UInt64(UInt32(bitPattern: thread)))
            text(name)
        }
    }

    /// All but its records.
    mutating func head(of source: FaultLog.Source) {
        side(source.side)
        number(source.guestStoppedAt)
        number(source.lostServices)
    }

    private mutating func side(_ side: FaultLog.Side) {
        text(side.bootID)
        number(side.endedAt)
        number(UInt64(side.phases.count))
        for phase in side.phases {
            text(phase.status)
            number(phase.at)
        }
    }
}

extension ByteReader {
    mutating func blocks() throws(FaultLogError) -> [FaultLog.Block] {
        var blocks: [FaultLog.Block] = []
        for _ in 0..<(try count(upTo: FaultLog.blocksMax, of: "blocks")) {
            blocks.append(
                FaultLog.Block(
                    name: try text(), lengthBytes: try number(), hostPageBytes: try number()))
        }
        return blocks
    }

    mutating func destination() throws(FaultLogError) -> FaultLog.Destination {
        var destination = FaultLog.Destination()
        destination.side = try side()
        destination.guestRunningAt = try number()
        destination.overlappedNanoseconds = try number()
        destination.lostWaits = try number()
        destination.lostPlacements = try number()
        for _ in 0..<(try number()) { destination.vcpuThreads.append(try thread()) }
        for _ in 0..<(try number()) {
            let thread = try thread()
            destination.threadNames[thread] = try text()
        }
        return destination
    }

    mutating func source() throws(FaultLogError) -> FaultLog.Source {
        var source = FaultLog.Source()
        source.side = try side()
        source.guestStoppedAt = try number()
        source.lostServices = try number()
        return source
    }

    private mutating func side() throws(FaultLogError) -> FaultLog.Side {
        var side = FaultLog.Side()
        side.bootID = try text()
        side.endedAt = try number()
        for _ in 0..<(try count(upTo: FaultLog.Side.phasesMax, of: "phases")) {
            side.phases.append(FaultLog.Phase(status: try text(), at: try number()))
        }
        return side
    }

    private mutating func count(
        upTo most: Int, of what: String
    ) throws(FaultLogError) -> UInt64 {
        let place = at
        let count = try number()
        guard count <= UInt64(most) else {
            throw .malformed(at: place, "\(count) \(what) are more than \(most)")
        }
        return count
    }

    private mutating func thread() throws(FaultLogError) -> Int32 {
        Int32(bitPattern: try number(as: UInt32.self))
    }
}
