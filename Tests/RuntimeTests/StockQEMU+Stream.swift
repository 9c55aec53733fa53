import PageModel

extension StockQEMU {
    mutating func readMain(_ bytes: [UInt8]) {
        var reader = WireReader(bytes)
        var pages = PageChannel(number: 0)
        do throws(Stop) {
            // A link may be cut before the source wrote anything.
            guard !bytes.isEmpty else { throw .cut }
            try readHead(&reader)
            while try readItem(&reader, &pages) {}
        } catch  where error == .cut {
            check(ending != .completed, .endOfStream, "cut off at byte \(reader.at)")
        } catch {}
    }

    private mutating func readHead(_ reader: inout WireReader) throws(Stop) {
        let start = try reader.take(9)
        try require(start == [0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 7], .head, "\(start)")
        let length = Int(try reader.number(4))
        try require(length > 0 && length < 256, .head, "a machine type of \(length) bytes")
        try reader.skip(length)
    }

    /// `false` at the end of the stream.
    private mutating func readItem(
        _ reader: inout WireReader, _ pages: inout PageChannel
    ) throws(Stop) -> Bool {
        let place = reader.at
        let type = try reader.number(1)
        switch type {
        case 0:
            check(sectionHasEnded, .endOfStream, "at byte \(place), inside section 'ram'")
            check(reader.isAtEnd, .endOfStream, "\(reader.count) bytes follow it")
            streamEnd = reader.at
            return false
        case 1: try readSectionStart(&reader, at: place)
        case 2, 3: try readSection(&reader, &pages, isLast: type == 3, at: place)
        case 8: try readCommand(&reader, at: place)
        default: try require(false, .item, "\(type) at byte \(place)")
        }
        return true
    }

    private mutating func readSectionStart(
        _ reader: inout WireReader, at place: Int
    ) throws(Stop) {
        let (id, name) = (UInt32(try reader.number(4)), try reader.name())
        let (instance, version) = (try reader.number(4), try reader.number(4))
        let isRAM = name == Array("ram".utf8) && instance == 0 && version == 4 && id != 0
        check(isRAM && section == nil, .section, "start of \(name) \(id) at byte \(place)")
        check(isAdvised, .advise, "missing before the section at byte \(place)")
        section = id
        let word = try reader.number(8)
        try require(word & 0xfff == 4, .blockList, "begins with \(word)")
        let total = blocks.reduce(0) { $0 + $1.lengthBytes }
        try require(word & ~0xfff == total, .blockList, "a total of \(word & ~0xfff)")
        var listed: Set<Int> = []
        while listed.count < blocks.count {
            let name = try reader.name()
            guard let block = block(named: name) else {
                return try require(false, .blockList, "names \(name)")
            }
            let length = try reader.number(8)
            let isNew = listed.insert(block).inserted
            try require(isNew && length == blocks[block].lengthBytes, .blockList, "\(name)")
            guard blocks[block].hostPage.bytes != 4096 else { continue }
            let size = try reader.number(8)
            try require(size == blocks[block].hostPage.bytes, .blockList, "pages of \(size)")
        }
        try require(try reader.number(8) == 0x10, .section, "the list has no end word")
        try readFooter(&reader, of: id)
    }

    private mutating func readSection(
        _ reader: inout WireReader, _ pages: inout PageChannel, isLast: Bool, at place: Int
    ) throws(Stop) {
        let id = UInt32(try reader.number(4))
        check(id == section, .section, "id \(id) at byte \(place)")
        check(!sectionHasEnded, .section, "resumed behind its end at byte \(place)")
        while try readRecord(&reader, &pages) {}
        try readFooter(&reader, of: id)
        guard isLast else { return }
        check(packageEnd != nil, .endOfStream, "before the package")
        check(pages.open == nil, .hostPageWhole, "the last one is not")
        sectionHasEnded = true
    }

    private mutating func readFooter(_ reader: inout WireReader, of id: UInt32) throws(Stop) {
        let (marker, found) = (try reader.number(1), UInt32(try reader.number(4)))
        try require(marker == 0x7e && found == id, .section, "footer before byte \(reader.at)")
    }

    private mutating func readCommand(_ reader: inout WireReader, at place: Int) throws(Stop) {
        let (number, length) = (try reader.number(2), Int(try reader.number(2)))
        let lengths: [UInt64: Int] = [1: 0, 2: 4, 3: 16, 6: length, 7: 4]
        try require(
            lengths[number] == length, .command, "\(number), \(length) bytes, at byte \(place)")
        switch number {
        case 1:
            check(returnPathEnd == nil, .returnPathFirst, "opened again at byte \(place)")
            returnPathEnd = reader.at
        case 2:
            check(returnPathEnd != nil, .returnPathFirst, "PING at byte \(place)")
            let value = UInt32(try reader.number(4))
            pings.append((value, reader.at))
        case 3:
            let (sizes, page) = (try reader.number(8), try reader.number(8))
            let expected = blocks.reduce(0) { $0 | $1.hostPage.bytes }
            check(!isAdvised && section == nil, .advise, "at byte \(place)")
            check(sizes == expected && page == 4096, .advise, "sizes \(sizes), page \(page)")
            isAdvised = true
        case 6: try readDiscard(try reader.take(length), at: place)
        default:
            check(packageEnd == nil && section != nil, .package, "at byte \(place)")
            check(hasDiscards, .discardDue, "none before byte \(place)")
            let blob = try reader.take(Int(try reader.number(4)))
            readPackage(blob, end: reader.at)
        }
    }

    private mutating func readDiscard(_ payload: [UInt8], at place: Int) throws(Stop) {
        check(section != nil && packageEnd == nil, .discardEarly, "at byte \(place)")
        hasDiscards = true
        var reader = WireReader(payload)
        let (version, name, zero) = (
            try reader.number(1), try reader.name(), try reader.number(1)
        )
        guard let block = block(named: name), version == 0, zero == 0 else {
            return note(.discardShape, "version \(version), block \(name), end \(zero)")
        }
        let ranges = reader.count / 16
        check(
            reader.count % 16 == 0 && (1...12).contains(ranges), .discardShape,
            "\(reader.count) bytes of ranges at byte \(place)")
        let (length, size) = (blocks[block].lengthBytes, blocks[block].hostPage.bytes)
        let text = blocks[block].name
        for _ in 0..<ranges {
            let (start, count) = (try reader.number(8), try reader.number(8))
            let isInside = start <= length && count <= length - start
            let isWhole = start % size == 0 && count % size == 0 && count > 0
            guard isInside, isWhole else {
                note(.discardShape, "\(count) bytes at \(start) of \(text)")
                continue
            }
            for page in start >> 12..<(start + count) >> 12 {
                let isNew = owed.insert(Page(block: block, page: Int(page))).inserted
                check(isNew, .discardShape, "page \(page) of \(text) twice")
            }
        }
    }

    private mutating func readPackage(_ blob: [UInt8], end: Int) {
        let listen: [UInt8] = [8, 0, 4, 0, 0]
        let last: [UInt8] =
            [8, 0, 2, 0, 4, 0, 0, 0, 3, 8, 0, 2, 0, 4, 0, 0, 0, 0x42, 8, 0, 5, 0, 0]
        check(blob.starts(with: listen), .package, "begins with \(blob.prefix(5))")
        check(
            blob.count >= listen.count + last.count && blob.suffix(last.count) == last[...],
            .package, "ends with \(blob.suffix(last.count))")
        // A second one is a breach, and no new beginning.
        packageEnd = packageEnd ?? end
        pings += [(3, end), (0x42, end)]
    }
}
