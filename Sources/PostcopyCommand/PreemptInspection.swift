internal import Postcopy
internal import StreamWire

/// Reads the preempt channel: a hello, the pages that somebody waited for, and perhaps an end.
struct PreemptInspection {
    private let file: ChannelFile
    private let report: InspectionReport
    private let detail: InspectionDetail
    private let guest: GuestCheck
    private let isContinued: Bool
    private var decoder: RAMRecordDecoder
    private var row = OpenRow.none

    /// - Parameter isContinued: whether another link takes the migration up where this one ends.
    init(
        _ file: ChannelFile, _ report: InspectionReport, detail: InspectionDetail,
        guest: GuestCheck, blocks: [ListedBlock], isContinued: Bool
    ) {
        self.file = file
        self.report = report
        self.detail = detail
        self.guest = guest
        self.isContinued = isContinued
        decoder = RAMRecordDecoder(blocks: blocks, acceptsHeartbeats: true)
        guest.beginChannel()
    }

    /// - Throws: `Refusal` when the file cannot be read on.
    mutating func run() throws {
        try takeHello()
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
                end(at: place)
                break
            }
        }
        report.end(atByte: file.position)
    }

    private func end(at place: UInt64) {
        let cut = RAMRecordDecoder.endOfInput(unread: file.unreadCount, position: place)
        guard let cut else { return }
        if isContinued { report.add(.linkLost(at: place)) } else { report.stop(cut, file) }
    }

    /// A channel of peers that agreed on a recovery begins so.
    private func takeHello() throws {
        while file.unreadCount < ChannelHello.wireBytes, try file.fill() {}
        let bytes = file.bytes
        guard let hello = try? ChannelHello.decode(bytes.span) else { return }
        var item = InspectedItem(
            offset: 0, bytes: UInt64(ChannelHello.wireBytes), kind: .hello)
        item.take(hello)
        report.add(item)
        file.consume(ChannelHello.wireBytes)
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
