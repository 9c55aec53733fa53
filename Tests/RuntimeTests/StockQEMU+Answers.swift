import PageModel

/// The return path, and what the destination had read when it wrote to it.
struct AnswerReading {
    var reader: WireReader
    let clock: RecordingClock
    var block: Int?
    var pongs: [UInt32: Int] = [:]
    var shut: UInt32?
}

extension StockQEMU {
    mutating func readAnswers(_ migration: RecordedMigration) {
        var answers = AnswerReading(
            reader: WireReader(migration.bytes(channel: 0, isFromSource: false)),
            clock: RecordingClock(migration, channel: 0, isFromSource: false))
        do throws(Stop) {
            while !answers.reader.isAtEnd { try readMessage(&answers) }
        } catch  where error == .cut {
            check(ending == .cut, .message, "cut off at byte \(answers.reader.at)")
        } catch { return }
        switch ending {
        case .completed:
            check(answers.shut == 0, .shutLast, "none says success")
            let sent = Dictionary(pings.map { ($0.value, 1) }, uniquingKeysWith: +)
            check(sent == answers.pongs, .pongDue, "\(sent), answered \(answers.pongs)")
        case .refused: check(answers.shut ?? 0 != 0, .shutLast, "none says failure")
        case .cut: break
        }
    }

    private mutating func readMessage(_ answers: inout AnswerReading) throws(Stop) {
        let place = answers.reader.at
        let known = answers.clock.counts(before: place).main
        check(answers.shut == nil, .shutLast, "more at byte \(place)")
        check(known >= returnPathEnd ?? .max, .returnPathOpen, "byte \(place)")
        let (type, length) = (try answers.reader.number(2), Int(try answers.reader.number(2)))
        let text = "type \(type), \(length) bytes, at byte \(place)"
        switch type {
        case 1:
            try require(length == 4, .message, text)
            try readShut(&answers, at: place)
        case 2:
            try require(length == 4, .message, text)
            readPong(UInt32(try answers.reader.number(4)), &answers, known)
        case 3, 4:
            try require(type == 4 ? length == 12 : length >= 14, .message, text)
            try readRequest(try answers.reader.take(length), &answers, text)
            check(known >= packageEnd ?? .max, .requestTime, text)
        case 0x5043:
            // What this side can do beyond QEMU, said in the place of a PONG to who has asked.
            let question = pings.last { $0.value >> 16 == 0x5043 && $0.end <= known }
            try require(question != nil, .message, text)
            try answers.reader.skip(length)
            readPong(question?.value ?? 0, &answers, known)
        case 0x5044:
            try require(answers.pongs.keys.contains { $0 >> 16 == 0x5043 }, .message, text)
            try answers.reader.skip(length)
        default: try require(false, .message, text)
        }
    }

    private mutating func readPong(_ value: UInt32, _ answers: inout AnswerReading, _ known: Int) {
        answers.pongs[value, default: 0] += 1
        let asked = pings.count { $0.value == value && $0.end <= known }
        check(answers.pongs[value, default: 0] <= asked, .pongAsked, "\(value)")
        if value == 0x42 { check(known >= packageEnd ?? .max, .commitment, "at \(known)") }
    }

    private mutating func readShut(_ answers: inout AnswerReading, at place: Int) throws(Stop) {
        let value = UInt32(try answers.reader.number(4))
        answers.shut = value
        guard value == 0 else {
            return check(answers.pongs[0x42] == nil, .shutCommitted, "\(value)")
        }
        let counts = answers.clock.counts(before: place)
        let known = [counts.main, counts.urgent]
        check(streamEnd ?? .max <= known[0], .shutEarly, "before the end of the stream")
        let missing = owed.count { page in
            sendings[page].map { $0.end > known[$0.channel] } ?? true
        }
        check(missing == 0, .shutEarly, "\(missing) pages are missing")
    }

    private mutating func readRequest(
        _ payload: [UInt8], _ answers: inout AnswerReading, _ text: String
    ) throws(Stop) {
        var reader = WireReader(payload)
        let (start, count) = (try reader.number(8), try reader.number(4))
        if !reader.isAtEnd {
            let name = try reader.take(Int(try reader.number(1)))
            try require(reader.isAtEnd, .message, text)
            answers.block = block(named: name)
        }
        guard let block = answers.block else { return note(.requestNamed, text) }
        let (size, length) = (blocks[block].hostPage.bytes, blocks[block].lengthBytes)
        let isWhole = count == size && start % size == 0 && start < length
        check(isWhole, .requestShape, "\(count) bytes at \(start); \(text)")
        guard isWhole else { return }
        let page = Page(block: block, page: Int(start / size))
        if requests[page] == nil { requests[page] = answers.reader.at }
    }
}
