/// A record that is written as what changed since the one before it.
protocol RecordCoding: BitwiseCopyable {
    init()
    func write(after last: Self, to writer: inout ByteWriter)
    static func read(after last: Self, from reader: inout ByteReader) throws(FaultLogError) -> Self
}

extension ByteWriter {
    mutating func records<Record: RecordCoding>(_ records: ArraySlice<Record>) {
        var last = Record()
        for record in records {
            record.write(after: last, to: &self)
            last = record
        }
    }

    /// The instants that happened, each by its step from the one before.
    fileprivate mutating func instants(_ instants: [UInt64], from base: UInt64) {
        var base = base
        for instant in instants where instant != 0 {
            step(from: base, to: instant)
            base = instant
        }
    }
}

extension ByteReader {
    /// Reads up to the end, so that no number in the file sizes anything.
    mutating func records<Record: RecordCoding>(
        into records: inout [Record]
    ) throws(FaultLogError) {
        var last = Record()
        while !isAtEnd {
            guard records.count < FaultLogCodec.recordsMax else {
                throw .malformed(
                    at: at, "there are more than \(FaultLogCodec.recordsMax) records of a kind")
            }
            last = try Record.read(after: last, from: &self)
            records.append(last)
        }
    }

    /// A record's first byte: which instants there are, and whether the block is another.
    fileprivate mutating func mask(upTo highest: UInt8) throws(FaultLogError) -> UInt8 {
        let place = at
        let mask = try byte()
        guard mask <= highest else { throw .malformed(at: place, "a record has unknown fields") }
        return mask
    }
}

/// Bit `n` is set where instant `n` happened.
private func mask(_ instants: [UInt64]) -> UInt8 {
    var mask: UInt8 = 0
    for (bit, instant) in instants.enumerated() where instant != 0 { mask |= 1 << UInt8(bit) }
    return mask
}

extension WaitRecord: RecordCoding {
    private static let blockChanged: UInt8 = 1 << 6

    func write(after last: WaitRecord, to writer: inout ByteWriter) {
        let instants = [began, read, requested, firstByte, placed, ended]
        let isOther = block != last.block
        writer.byte(mask(instants) | (isOther ? Self.blockChanged : 0))
        if isOther { writer.number(UInt64(block)) }
        writer.number(UInt64(flags.rawValue))
        writer.step(
            from: UInt64(bitPattern: Int64(last.thread)), to: UInt64(bitPattern: Int64(thread)))
        writer.step(from: last.page, to: page)
        writer.instants(instants, from: last.began)
    }

    static func read(
        after last: WaitRecord, from reader: inout ByteReader
    ) throws(FaultLogError) -> WaitRecord {
        let mask = try reader.mask(upTo: 0x7F)
        var record = WaitRecord()
        record.block = mask & blockChanged == 0 ? last.block : try reader.number(as: UInt16.self)
        record.flags = WaitFlags(rawValue: try reader.number(as: UInt16.self))
        let place = reader.at
        let thread = try reader.step(from: UInt64(bitPattern: Int64(last.thread)))
        guard let thread = Int32(exactly: Int64(bitPattern: thread)) else {
            throw .malformed(at: place, "no thread has such a number")
        }
        record.thread = thread
        record.page = try reader.step(from: last.page)
        var base = last.began
        func next(_ bit: UInt8) throws(FaultLogError) -> UInt64 {
            guard mask & (1 << bit) != 0 else { return 0 }
            base = try reader.step(from: base)
            return base
        }
        record.began = try next(0)
        record.read = try next(1)
        record.requested = try next(2)
        record.firstByte = try next(3)
        record.placed = try next(4)
        record.ended = try next(5)
        return record
    }
}

extension ServiceRecord: RecordCoding {
    private static let blockChanged: UInt8 = 1 << 3

    func write(after last: ServiceRecord, to writer: inout ByteWriter) {
        let instants = [received, begun, written]
        let isOther = block != last.block
        writer.byte(mask(instants) | (isOther ? Self.blockChanged : 0))
        if isOther { writer.number(UInt64(block)) }
        writer.number(UInt64(flags.rawValue))
        writer.number(UInt64(ahead))
        writer.step(from: last.page, to: page)
        writer.instants(instants, from: last.received)
    }

    static func read(
        after last: ServiceRecord, from reader: inout ByteReader
    ) throws(FaultLogError) -> ServiceRecord {
        let mask = try reader.mask(upTo: 0xF)
        var record = ServiceRecord()
        record.block = mask & blockChanged == 0 ? last.block : try reader.number(as: UInt16.self)
        record.flags = ServiceFlags(rawValue: try reader.number(as: UInt16.self))
        record.ahead = try reader.number(as: UInt32.self)
        record.page = try reader.step(from: last.page)
        var base = last.received
        func next(_ bit: UInt8) throws(FaultLogError) -> UInt64 {
            guard mask & (1 << bit) != 0 else { return 0 }
            base = try reader.step(from: base)
            return base
        }
        record.received = try next(0)
        record.begun = try next(1)
        record.written = try next(2)
        return record
    }
}

extension PlacementRecord: RecordCoding {
    private static let blockChanged: UInt8 = 1 << 1

    func write(after last: PlacementRecord, to writer: inout ByteWriter) {
        let isOther = block != last.block
        writer.byte(mask([at]) | (isOther ? Self.blockChanged : 0))
        if isOther { writer.number(UInt64(block)) }
        writer.number(UInt64(isUrgent))
        writer.number(UInt64(count))
        // The background goes on where it was.
        writer.step(from: last.page &+ UInt64(last.count), to: page)
        writer.instants([at], from: last.at)
    }

    static func read(
        after last: PlacementRecord, from reader: inout ByteReader
    ) throws(FaultLogError) -> PlacementRecord {
        let mask = try reader.mask(upTo: 0x3)
        var record = PlacementRecord()
        record.block = mask & blockChanged == 0 ? last.block : try reader.number(as: UInt16.self)
        record.isUrgent = try reader.number(as: UInt16.self)
        record.count = try reader.number(as: UInt32.self)
        record.page = try reader.step(from: last.page &+ UInt64(last.count))
        if mask & 1 != 0 { record.at = try reader.step(from: last.at) }
        return record
    }
}
