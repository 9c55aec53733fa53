internal import Postcopy
internal import StreamWire

/// Reads the return path: pongs, requests for pages, what a recovery adds, and the end.
struct ReturnPathInspection {
    /// A row to which more may still belong, and where it begins.
    private enum Row {
        case none
        case requests(offset: UInt64, count: Int, BlockTally)
        case heartbeats(offset: UInt64, count: Int)
        case bitmap(offset: UInt64, name: String, received: UInt64)
    }

    private let file: ChannelFile
    private let report: InspectionReport
    private let detail: InspectionDetail
    private let names: [String]
    private let isContinued: Bool
    private var decoder: ReturnPathDecoder
    private var row = Row.none

    /// - Parameter isResumed: whether the link takes up a migration that had broken.
    /// - Parameter isContinued: whether another link takes it up where this one ends.
    init(
        _ file: ChannelFile, _ report: InspectionReport, detail: InspectionDetail,
        blocks: [ListedBlock], isResumed: Bool, isContinued: Bool
    ) {
        self.file = file
        self.report = report
        self.detail = detail
        self.isContinued = isContinued
        names = blocks.map(\.geometry.name)
        guard isResumed else {
            decoder = ReturnPathDecoder(blocks: blocks, hasAsked: true)
            return
        }
        decoder = ReturnPathDecoder(blocks: blocks, offered: [.refusalReason, .recovery])
        decoder.expectsBitmaps()
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
                finishRow(at: place)
                report.stop(error, file)
                break
            }
            if case .item(let message, let consumed) = step {
                take(message, at: place, lengthBytes: consumed)
                file.consume(consumed)
            } else if try !file.fill() {
                finishRow(at: place)
                end(at: place)
                break
            }
        }
        report.end(atByte: decoder.position)
    }

    private func end(at place: UInt64) {
        guard let cut = decoder.endOfInput(unread: file.unreadCount) else { return }
        if isContinued { report.add(.linkLost(at: place)) } else { report.stop(cut, file) }
    }

    private mutating func take(_ message: ReturnPathMessage, at place: UInt64, lengthBytes: Int) {
        var item = InspectedItem(offset: place, bytes: UInt64(lengthBytes), kind: .pong)
        switch message {
        case .requestPages(let block, let start, let length):
            return addRequest(block, start, length, at: place)
        case .heartbeat: return addHeartbeat(at: place)
        case .receivedBitmap(let block):
            finishRow(at: place)
            row = .bitmap(offset: place, name: names[block.rawValue], received: 0)
            return
        case .bitmapBytes(_, _, let range): return addBits(range)
        case .bitmapEnd: return finishRow(at: place + UInt64(lengthBytes))
        case .pong(let value): item.value = UInt64(value)
        case .shut(let error): (item.kind, item.value) = (.shut, UInt64(error))
        case .extensions(let offer):
            (item.kind, item.value) = (.extensions, UInt64(offer.extensions.rawValue))
            item.token = offer.token?.description
        case .refusalReason(let text): (item.kind, item.reason) = (.refusalReason, text)
        case .recoveryAnswer(let answer):
            (item.kind, item.value) = (.recoveryAnswer, UInt64(answer.rawValue))
        case .resumeAcknowledged: item.kind = .resumeAcknowledged
        }
        finishRow(at: place)
        report.add(item)
    }

    private mutating func addRequest(
        _ block: BlockIndex, _ start: RAMOffset, _ length: UInt64, at place: UInt64
    ) {
        var open = (offset: place, count: 0, tally: BlockTally(blockCount: names.count))
        if detail == .summary, case .requests(let offset, let count, let tally) = row {
            open = (offset, count, tally)
            row = .none
        } else {
            finishRow(at: place)
        }
        open.tally.add(block, start, length)
        row = .requests(offset: open.offset, count: open.count + 1, open.tally)
    }

    private mutating func addHeartbeat(at place: UInt64) {
        if detail == .summary, case .heartbeats(let offset, let count) = row {
            row = .heartbeats(offset: offset, count: count + 1)
        } else {
            finishRow(at: place)
            row = .heartbeats(offset: place, count: 1)
        }
    }

    private mutating func addBits(_ range: Range<Int>) {
        guard case .bitmap(let offset, let name, let received) = row else { return }
        let count = file.bytes[range].reduce(UInt64(0)) { $0 + UInt64($1.nonzeroBitCount) }
        row = .bitmap(offset: offset, name: name, received: received + count)
    }

    /// Reports the open row; of a bitmap that was cut short, as far as it came.
    private mutating func finishRow(at end: UInt64) {
        switch row {
        case .none: return
        case .requests(let offset, let count, let tally):
            report.add(
                InspectedItem(
                    offset: offset, bytes: end - offset, kind: .requests, count: count,
                    blocks: tally.figures(names, InspectedBlock.requests)))
        case .heartbeats(let offset, let count):
            report.add(
                InspectedItem(
                    offset: offset, bytes: end - offset, kind: .heartbeats, count: count))
        case .bitmap(let offset, let name, let received):
            report.add(
                InspectedItem(
                    offset: offset, bytes: end - offset, kind: .bitmap,
                    blocks: [InspectedBlock(name: name, received: received)]))
        }
        row = .none
    }
}

extension InspectedItem {
    /// The end of a channel that another link goes on with.
    static func linkLost(at place: UInt64) -> InspectedItem {
        InspectedItem(offset: place, bytes: 0, kind: .linkLost)
    }
}
