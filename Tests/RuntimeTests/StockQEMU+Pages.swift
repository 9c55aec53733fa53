import PageModel

/// What a channel of page records remembers.
struct PageChannel {
    let number: Int
    var block: Int?
    /// A host page of which not all has come.
    var open: (page: StockQEMU.Page, left: Int)?
}

extension StockQEMU {
    /// `false` at the end word.
    mutating func readRecord(
        _ reader: inout WireReader, _ channel: inout PageChannel
    ) throws(Stop) -> Bool {
        let start = reader.at
        let word = try reader.number(8)
        if word == 0x10 { return false }
        let place = "\(word) at byte \(start) of channel \(channel.number)"
        let content = word & 0xfff & ~0x20
        try require(content == 2 || content == 8, .record, place)
        if word & 0x20 == 0 { channel.block = block(named: try reader.name()) }
        guard let block = channel.block else {
            note(.blockNamed, place)
            throw .lost
        }
        let offset = word & ~0xfff
        check(offset < blocks[block].lengthBytes, .pageInside, place)
        if content == 2 {
            check(try reader.number(1) == 0, .zeroFill, place)
        } else {
            try reader.skip(4096)
        }
        // Whatever the urgent channel brings is owed.
        guard packageEnd != nil || channel.number > 0 else { return true }
        let sending = Sending(channel: channel.number, start: start, end: reader.at)
        settle(Page(block: block, page: Int(offset >> 12)), sending, &channel)
        return true
    }

    private mutating func settle(
        _ page: Page, _ sending: Sending, _ channel: inout PageChannel
    ) {
        check(owed.contains(page), .owed, "\(page)")
        check(sendings.updateValue(sending, forKey: page) == nil, .sentOnce, "\(page)")
        let count = blocks[page.block].hostPage.targetPages
        let hostPage = hostPage(of: page)
        let before = hostPageChannels.updateValue(channel.number, forKey: hostPage)
        check(before ?? channel.number == channel.number, .hostPageSplit, "\(page)")
        if let open = channel.open {
            check(open.page == hostPage, .hostPageWhole, "\(page) before all of \(open.page)")
        }
        let left = channel.open.map { $0.page == hostPage ? $0.left : count } ?? count
        channel.open = left > 1 ? (hostPage, left - 1) : nil
    }

    func hostPage(of page: Page) -> Page {
        Page(block: page.block, page: page.page / blocks[page.block].hostPage.targetPages)
    }

    mutating func readUrgent(_ migration: RecordedMigration) {
        let channels = Set(migration.entries.map(\.channel))
        check(channels.isSubset(of: [0, 1]), .connections, "\(channels)")
        let answers = migration.bytes(channel: 1, isFromSource: false)
        check(answers.isEmpty, .connections, "\(answers.count) bytes against the stream")
        var reader = WireReader(migration.bytes(channel: 1, isFromSource: true))
        guard !reader.isAtEnd else { return }
        var pages = PageChannel(number: 1)
        do throws(Stop) {
            while try readRecord(&reader, &pages) {}
            check(reader.isAtEnd, .urgentEnd, "\(reader.count) bytes follow it")
            check(pages.open == nil, .hostPageWhole, "the last urgent one is not")
        } catch  where error == .cut {
            check(ending != .completed, .urgentEnd, "cut off at byte \(reader.at)")
        } catch {}
    }

    /// Whether what came on the urgent channel was asked for before.
    mutating func compareUrgent(_ migration: RecordedMigration) {
        let clock = RecordingClock(migration, channel: 1, isFromSource: true)
        for (page, sending) in sendings where sending.channel == 1 {
            let asked = requests[hostPage(of: page)] ?? .max
            let known = clock.counts(before: sending.start)
            check(asked <= known.answers, .urgentAsked, "\(page)")
        }
    }
}

/// Says how much had been written of everything when a byte of one channel was.
struct RecordingClock {
    /// Bytes of the main channel, of the urgent one, and of the return path.
    struct Counts {
        var main = 0
        var urgent = 0
        var answers = 0
    }

    /// How far the channel was at the end of an entry of its own, and what had come before that.
    private var marks: [(end: Int, before: Counts)] = []

    init(_ migration: RecordedMigration, channel: Int, isFromSource: Bool) {
        var (end, counts) = (0, Counts())
        for entry in migration.entries {
            let count = entry.bytes.count
            if entry.channel == channel, entry.isFromSource == isFromSource {
                end += count
                marks.append((end, counts))
            }
            switch (entry.channel, entry.isFromSource) {
            case (0, true): counts.main += count
            case (0, false): counts.answers += count
            case (1, true): counts.urgent += count
            default: break
            }
        }
    }

    func counts(before byte: Int) -> Counts {
        var (low, high) = (0, marks.count)
        while low < high {
            let middle = (low + high) / 2
            if marks[middle].end > byte { high = middle } else { low = middle + 1 }
        }
        return low < marks.count ? marks[low].before : Counts()
    }
}
