internal import Postcopy
internal import StreamWire

/// Reads the return path: pongs, requests for pages, and the end.
struct ReturnPathInspection {
    private let file: ChannelFile
    private let report: InspectionReport
    private let detail: InspectionDetail
    private let names: [String]
    private var decoder: ReturnPathDecoder
    /// Requests in a row: where they begin, how many, and for what.
    private var requests: (offset: UInt64, count: Int, tally: BlockTally)?

    init(
        _ file: ChannelFile, _ report: InspectionReport, detail: InspectionDetail,
        blocks: [ListedBlock]
    ) {
        self.file = file
        self.report = report
        self.detail = detail
        names = blocks.map(\.geometry.name)
        decoder = ReturnPathDecoder(blocks: blocks, hasAsked: true)
    }

    /// - Throws: `Refusal` when the file cannot be read on.
    mutating func run() throws {
        while true {
            let place = decoder.position
            let step: Decoded<ReturnPathMessage>
            do throws(WireError) {
                step = try file.decode { bytes, start throws(WireError) in
                    try decoder.next(in: bytes, from: start)
                }
            } catch {
                finishRequests(at: place)
                report.stop(error, file)
                break
            }
            if case .item(let message, let consumed) = step {
                take(message, at: place, lengthBytes: consumed)
                file.consume(consumed)
            } else if try !file.fill() {
                finishRequests(at: place)
                if let cut = decoder.endOfInput(unread: file.unreadCount) {
                    report.stop(cut, file)
                }
                break
            }
        }
        report.end(atByte: decoder.position)
    }

    private mutating func take(_ message: ReturnPathMessage, at place: UInt64, lengthBytes: Int) {
        if case .requestPages(let block, let start, let length) = message {
            if detail > .summary { finishRequests(at: place) }
            var open = requests ?? (place, 0, BlockTally(blockCount: names.count))
            requests = nil
            open.count += 1
            open.tally.add(block, start, length)
            requests = open
            return
        }
        finishRequests(at: place)
        var item = InspectedItem(offset: place, bytes: UInt64(lengthBytes), kind: .pong)
        switch message {
        case .pong(let value): item.value = UInt64(value)
        case .shut(let error): (item.kind, item.value) = (.shut, UInt64(error))
        case .extensions(let offer):
            (item.kind, item.value) = (.extensions, UInt64(offer.extensions.rawValue))
            item.token = offer.token?.description
        case .refusalReason(let text): (item.kind, item.reason) = (.refusalReason, text)
        case .recoveryAnswer(let answer):
            (item.kind, item.value) = (.recoveryAnswer, UInt64(answer.rawValue))
        case .heartbeat: (item.kind, item.count) = (.heartbeats, 1)
        case .resumeAcknowledged: item.kind = .resumeAcknowledged
        case .receivedBitmap, .bitmapBytes, .bitmapEnd, .requestPages: return
        }
        report.add(item)
    }

    private mutating func finishRequests(at end: UInt64) {
        guard let open = requests else { return }
        report.add(
            InspectedItem(
                offset: open.offset, bytes: end - open.offset, kind: .requests, count: open.count,
                blocks: open.tally.figures(names, InspectedBlock.requests)))
        requests = nil
    }
}

/// Reads the preempt channel: the pages that somebody waited for, and perhaps an end.
struct PreemptInspection {
    private let file: ChannelFile
    private let report: InspectionReport
    private let detail: InspectionDetail
    private let guest: GuestCheck
    private var decoder: RAMRecordDecoder
    private var row = OpenRow.none

    init(
        _ file: ChannelFile, _ report: InspectionReport, detail: InspectionDetail,
        guest: GuestCheck, blocks: [ListedBlock]
    ) {
        self.file = file
        self.report = report
        self.detail = detail
        self.guest = guest
        decoder = RAMRecordDecoder(blocks: blocks, acceptsHeartbeats: true)
        guest.beginChannel()
    }

    /// - Throws: `Refusal` when the file cannot be read on.
    mutating func run() throws {
        while true {
            let place = file.position
            let step: Decoded<RAMRecord>
            do throws(WireError) {
                step = try file.decode { bytes, start throws(WireError) in
                    try decoder.next(in: bytes, from: start, position: place)
                }
            } catch {
                finishRow(at: place)
                report.stop(error, file)
                break
            }
            if case .item(let record, let consumed) = step {
                take(record, at: place, lengthBytes: consumed)
                file.consume(consumed)
            } else if try !file.fill() {
                finishRow(at: place)
                let cut = RAMRecordDecoder.endOfInput(unread: file.unreadCount, position: place)
                if let cut { report.stop(cut, file) }
                break
            }
        }
        report.end(atByte: file.position)
    }

    private mutating func take(_ record: RAMRecord, at place: UInt64, lengthBytes: Int) {
        switch record {
        case .page(let block, let offset, _):
            take(InspectedPage(block: block, offset: offset, isZero: false), at: place, lengthBytes)
        case .zeroPage(let block, let offset):
            take(InspectedPage(block: block, offset: offset, isZero: true), at: place, lengthBytes)
        case .endOfSection:
            finishRow(at: place)
            report.add(InspectedItem(offset: place, bytes: UInt64(lengthBytes), kind: .end))
        case .heartbeat:
            let finished = row.addHeartbeat(at: place, detail: detail, names: guest.names)
            if let finished { report.add(finished) }
        }
    }

    private mutating func take(
        _ page: InspectedPage, at place: UInt64, _ lengthBytes: Int
    ) {
        let finished = row.addPage(page, at: place, detail: detail, names: guest.names)
        if let finished { report.add(finished) }
        guard let text = guest.take(page) else { return }
        if report.tellsProblems { finishRow(at: place + UInt64(lengthBytes)) }
        report.add(InspectedProblem(offset: place, text: text, endsReading: false))
    }

    private mutating func finishRow(at end: UInt64) {
        if let item = row.item(endingAt: end, names: guest.names) { report.add(item) }
        row = .none
    }
}
