internal import Postcopy
internal import StreamWire

extension MainChannelInspection {
    /// Reports an item, or adds it to the row that is open.
    func take(
        _ item: StreamItem, at place: UInt64, lengthBytes: Int
    ) throws(WireError) {
        switch item {
        case .page(let block, let offset, _):
            take(InspectedPage(block: block, offset: offset, isZero: false), at: place)
        case .zeroPage(let block, let offset):
            take(InspectedPage(block: block, offset: offset, isZero: true), at: place)
        case .head(let machine): takeHead(machine, at: place, lengthBytes: lengthBytes)
        case .command(let command): take(command, at: place, lengthBytes: lengthBytes)
        case .sectionStart(let id):
            finishRow(at: place)
            row = .list(offset: place, section: id, blocks: nil)
        case .memorySize:
            if case .list = row { break }
            finishRow(at: place)
            row = .list(offset: place, section: nil, blocks: nil)
        case .blockList: takeList(at: place)
        case .sectionResumed(_, let last): takeSection(isLast: last, at: place)
        case .blockListed: break
        case .sectionEnd:
            // It belongs to what is in its section, unless a problem was told in between.
            guard case .none = row else { break }
            report.add(InspectedItem(offset: place, bytes: UInt64(lengthBytes), kind: .end))
        case .packageBytes(let range, let isLast):
            devices.takePackage(file.bytes, range)
            if isLast { takePackage(at: place) }
        case .deviceTail(let range):
            finishRow(at: place)
            try devices.takeTail(file.bytes, range, at: place)
        case .endOfStream:
            finishRow(at: place)
            report.add(InspectedItem(offset: place, bytes: 1, kind: .endOfStream))
            tell(guest?.takeEnd(), at: place)
        case .trailing:
            if case .trailing = row { break }
            row = .trailing(offset: place)
        }
    }

    private func takeHead(_ machine: String, at place: UInt64, lengthBytes: Int) {
        // Magic, version, type and length stand before the name, the configuration behind it.
        let configuration = file.start + 13 + machine.utf8.count..<file.start + lengthBytes
        let parts = try? HeadSubsection.decode(Array(file.bytes[configuration]).span)
        report.add(
            InspectedItem(
                offset: place, bytes: UInt64(lengthBytes), kind: .head, machineType: machine,
                subsections: parts.flatMap { $0.isEmpty ? nil : $0.map(\.text) }))
        tell(guest?.takeHead(), at: place)
    }

    private func takeList(at place: UInt64) {
        guard let guest, case .list(let offset, let section, _) = row else { return }
        var blocks: [InspectedBlock] = []
        for (index, block) in guest.listed.enumerated() {
            let usedBytes = decoder.usedBytes(of: BlockIndex(rawValue: index))
            guest.resize(index, to: usedBytes)
            blocks.append(
                InspectedBlock(
                    name: block.geometry.name, bytes: usedBytes,
                    pageSize: block.geometry.hostPage.bytes))
        }
        row = .list(offset: offset, section: section, blocks: blocks)
        tell(guest.takeBlockList(), at: place)
    }

    // MARK: Pages

    private var names: [String] { guest?.names ?? [] }
    private var emptyTally: BlockTally { BlockTally(blockCount: names.count) }

    private func takeSection(isLast: Bool, at place: UInt64) {
        if detail == .summary, !isLast, var pages = row.takePages() {
            if let count = pages.sections, !pages.isLast {
                pages.sections = count + 1
                row = .pages(pages)
                return
            }
            row = .pages(pages)
        }
        finishRow(at: place)
        row = .pages(
            .init(offset: place, sections: 1, isLast: isLast, tally: emptyTally))
    }

    private func take(_ page: InspectedPage, at place: UInt64) {
        let finished = row.addPage(page, at: place, detail: detail, names: names)
        if let finished { report.add(finished) }
        tell(guest?.take(page), at: place)
    }

    // MARK: Commands

    private func take(_ command: Command, at place: UInt64, lengthBytes: Int) {
        switch command {
        case .discard(let discard): takeDiscard(discard, at: place)
        case .heartbeat:
            let finished = row.addHeartbeat(at: place, detail: detail, names: names)
            if let finished { report.add(finished) }
            return
        default: finishRow(at: place)
        }
        var item = InspectedItem(offset: place, bytes: UInt64(lengthBytes), kind: .ping)
        switch command {
        case .openReturnPath: item.kind = .openReturnPath
        case .ping(let value):
            item.value = UInt64(value)
            if Extensions.offersRecovery(askedBy: value) { noteExtensions() }
        case .postcopyAdvise(let summary, _): (item.kind, item.value) = (.advise, summary)
        case .postcopyListen: item.kind = .listen
        case .postcopyRun: item.kind = .run
        case .switchoverStart: item.kind = .switchoverStart
        case .receivedBitmap(let block):
            item.kind = .bitmapRequest
            item.blocks = [InspectedBlock(name: names[block.rawValue])]
        case .postcopyResume: item.kind = .resume
        case .hello(let hello): item.take(hello)
        case .packaged:
            devices.beginPackage(commandAt: place, bytesAt: decoder.position)
            return
        case .discard: return tell(guest?.take(command), at: place)
        case .heartbeat: return
        }
        report.add(item)
        tell(guest?.take(command), at: place)
    }

    private func takeDiscard(_ discard: DiscardRanges, at place: UInt64) {
        var (offset, count, tally) = (place, 0, emptyTally)
        if detail == .summary, case .discards(let first, let before, let counted) = row {
            (offset, count, tally) = (first, before, counted)
            row = .none
        } else {
            finishRow(at: place)
        }
        for range in discard.ranges { tally.add(discard.block, range.start, range.lengthBytes) }
        row = .discards(offset: offset, count: count + 1, tally)
        guard detail == .runs else { return }
        var item = row.item(endingAt: decoder.position, names: names)
        item?.blocks = discard.ranges.map { range in
            InspectedBlock(
                name: names[discard.block.rawValue], bytes: range.lengthBytes,
                ranges: 1, from: range.start.rawValue,
                to: range.start.rawValue + range.lengthBytes)
        }
        if let item { report.add(item) }
        row = .none
    }

    private func takePackage(at place: UInt64) {
        let (item, problem) = devices.endPackage(isWhole: true)
        report.add(item)
        if let problem {
            report.add(problem, file, endsReading: false)
        } else {
            tell(guest?.takePackage(), at: item.offset)
        }
    }
}

extension InspectedItem {
    mutating func take(_ hello: ChannelHello) {
        (kind, value, token) = (.hello, UInt64(hello.attempt), hello.token.description)
        channel =
            switch hello.channel {
            case .main: "main"
            case .urgent: "urgent"
            }
    }
}

extension HeadSubsection {
    var text: String {
        switch self {
        case .targetPageBits(let bits): "target pages of \(Readable.bytes(1 << UInt64(bits)))"
        case .capabilities(let names):
            names.isEmpty ? "no capabilities" : "capabilities \(names.joined(separator: ", "))"
        case .uuid(let bytes):
            "uuid "
                + Self.groups.map { range in
                    bytes[range].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
                }.joined(separator: "-")
        }
    }

    private static let groups = [0..<4, 4..<6, 6..<8, 8..<10, 10..<16]
}
