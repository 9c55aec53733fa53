internal import Postcopy
internal import StreamWire

/// An inspection as people read it: a line for each item with its offset and its size, and below it
/// what it has of each RAM block or device.
struct InspectionText {
    private let offsetWidth: Int
    /// Of the longest name of a block.
    var nameWidth = 0

    private static let margin = "  "
    /// As in "1023 KiB".
    private static let sizeWidth = 8
    /// As in OPEN_RETURN_PATH.
    private static let labelWidth = 16

    init(offsetDigits: Int) { offsetWidth = offsetDigits + 2 }

    /// - Parameter number: of the channel's link, 0 for the first.
    func title(_ role: ChannelRole, _ file: ChannelFile, ofLink number: Int) -> [String] {
        let name = file.path == "-" ? "standard input" : PeerText.plain(file.path)
        let size = file.lengthBytes.map { ", \(Self.size($0))" } ?? ""
        let link = number == 0 ? "" : ", resumed\(number == 1 ? "" : " \(number)")"
        return ["\(role.rawValue)\(link): \(name)\(size)", "", row("offset", "size", "")]
    }

    func lines(of item: InspectedItem) -> [String] {
        let label = TextColumns.left(Self.label(of: item), Self.labelWidth)
        let blocks = InspectedBlock.table(
            item.blocks ?? [], nameWidth: item.kind == .blockList ? 0 : nameWidth)
        // What there is of a single block is all there is.
        let isOne = blocks.count == 1 && item.kind != .blockList
        let text = isOne ? blocks[0] : item.summary
        let first = row(
            Self.hex(item.offset), Self.size(item.bytes),
            text.isEmpty ? label : "\(label)  \(text)")
        let parts = (item.subsections ?? []).map { under(PeerText.plain($0)) }
        return [first] + parts + (isOne ? [] : blocks.map(under)) + deviceLines(item)
    }

    /// Flush with the items, and set apart from them.
    func lines(of problem: InspectedProblem, excerpt: [String]) -> [String] {
        let indent = String(repeating: " ", count: Self.margin.count + offsetWidth + 2)
        let head = row(Self.hex(problem.offset), "WRONG", PeerText.plain(problem.text))
        guard !excerpt.isEmpty else { return [head] }
        return [head, ""] + excerpt.map { indent + $0 }
    }

    func omitted(_ problems: UInt64) -> [String] {
        [row("", "", "\(problems) more like these")]
    }

    private func deviceLines(_ item: InspectedItem) -> [String] {
        let devices = item.devices ?? []
        let cells = TextColumns([.left, .right, .right, .right]).lines(
            devices.map {
                [
                    $0.name, "instance \($0.instance)", "version \($0.version)",
                    "section \($0.section)",
                ]
            })
        var lines = zip(devices, cells).map { device, text in
            row(Self.hex(device.offset), Self.size(device.bytes), Self.margin + text)
        }
        if let place = item.unresolvedOffset {
            lines.append(row(Self.hex(place), "", Self.margin + "what follows was not made out"))
        }
        return lines
    }

    private func under(_ text: String) -> String { row("", "", Self.margin + text) }

    private func row(_ offset: String, _ size: String, _ text: String) -> String {
        TextColumns.joined([
            Self.margin + TextColumns.right(offset, offsetWidth),
            TextColumns.right(size, Self.sizeWidth), text.isEmpty ? " " : text,
        ])
    }

    /// A size that is a whole number of its unit has no digits behind the point: 256 MiB, 1.50 KiB.
    static func size(_ bytes: UInt64) -> String {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let whole = bytes >> UInt64(shift)
            if whole > 0, whole << UInt64(shift) == bytes, whole < 1024 {
                return "\(whole) \(unit)"
            }
        }
        return Readable.bytes(bytes)
    }

    static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}

extension InspectionText {
    /// What the wire calls an item.
    private static func label(of item: InspectedItem) -> String {
        switch item.kind {
        case .head: "head"
        case .blockList: item.section == nil ? "block list" : "ram start"
        case .pages: item.pagesLabel
        case .devices: "devices"
        case .package: "PACKAGED"
        case .discards: several("DISCARD", item.count)
        case .openReturnPath: "OPEN_RETURN_PATH"
        case .ping: "PING \(number(item.value))"
        case .advise: "POSTCOPY_ADVISE"
        case .listen: "POSTCOPY_LISTEN"
        case .run: "POSTCOPY_RUN"
        case .switchoverStart: "SWITCHOVER_START"
        case .endOfStream: "end of stream"
        case .description: "description"
        case .trailing: "behind the end"
        case .pong: "PONG \(number(item.value))"
        case .requests: several("REQ_PAGES", item.count)
        case .shut: "SHUT \(number(item.value))"
        case .end: "end"
        case .extensions: "extensions \(number(item.value))"
        case .refusalReason: "refusal"
        case .hello: "hello"
        case .heartbeats: several("heartbeat", item.count)
        case .bitmapRequest, .bitmap: "RECV_BITMAP"
        case .resume: "POSTCOPY_RESUME"
        case .recoveryAnswer: "answer"
        case .resumeAcknowledged: "RESUME_ACK"
        case .linkLost: "link lost"
        }
    }

    /// Small numbers as they are, and the one that QEMU writes in hexadecimal.
    static func number(_ value: UInt64?) -> String {
        guard let value else { return "" }
        return value < 10 ? "\(value)" : hex(value)
    }

    private static func several(_ label: String, _ count: Int?) -> String {
        guard let count, count > 1 else { return label }
        return "\(label) x \(count)"
    }
}

extension InspectedItem {
    fileprivate var pagesLabel: String {
        guard let count else { return "pages" }
        if isLast == true { return "ram end" }
        return count > 1 ? "ram part x \(count)" : "ram part"
    }

    /// What stands beside the label.
    fileprivate var summary: String {
        switch kind {
        case .head: "machine type \(PeerText.quoted(machineType ?? ""))"
        case .blockList: listSummary
        case .pages: pagesSummary
        case .discards:
            "\(Readable.count(total(\.ranges), "range", "ranges")) of \(size)"
        case .requests: size
        case .advise: adviseSummary
        case .package: [deviceCount, pingSummary].compactMap(\.self).joined(separator: ", ")
        case .devices: deviceCount
        case .description:
            value.map { "JSON of \(Readable.count($0, "device", "devices"))" } ?? "no JSON"
        case .openReturnPath, .ping, .listen, .run, .switchoverStart, .endOfStream, .trailing,
            .pong, .shut, .end, .heartbeats, .bitmapRequest, .bitmap, .resume,
            .resumeAcknowledged, .linkLost:
            ""
        case .extensions: token.map { "migration \($0)" } ?? ""
        case .hello: helloSummary
        case .recoveryAnswer: answerSummary
        case .refusalReason: PeerText.quoted(reason ?? "")
        }
    }

    /// What was discarded or asked for.
    private var size: String { InspectionText.size(total(\.bytes)) }

    private var pingSummary: String? {
        pings.map { pings in
            "PING " + pings.map { InspectionText.number(UInt64($0)) }.joined(separator: " ")
        }
    }

    private var listSummary: String {
        let name = section.map { "section \($0)" }
        let list = blocks.map { blocks in
            "\(Readable.count(UInt64(blocks.count), "block", "blocks")) of \(size)"
        }
        return [name, list].compactMap(\.self).joined(separator: ", ")
    }

    private var pagesSummary: String {
        let (normal, zero) = (total(\.normal), total(\.zero))
        return normal + zero == 0 ? "no page" : "\(normal) normal, \(zero) zero"
    }

    private var deviceCount: String {
        let count = Readable.count(UInt64(devices?.count ?? 0), "device", "devices")
        return unresolvedOffset == nil ? count : "\(count) made out"
    }

    private var adviseSummary: String {
        let summary = value ?? 0
        let sizes = (0..<64).map { UInt64(1) << $0 }.filter { summary & $0 != 0 }
        return "pages of \(sizes.map(InspectionText.size).joined(separator: " and "))"
    }

    private var helloSummary: String {
        "\(channel ?? "") channel, link \(InspectionText.number(value)), migration \(token ?? "")"
    }

    private var answerSummary: String {
        switch value.flatMap(UInt32.init(exactly:)).flatMap(RecoveryAnswer.init(rawValue:)) {
        case .waiting: "go on: the guest has not started there"
        case .running: "go on: the guest runs there"
        case .completed: "every page is there"
        case .neverRan: "the guest never ran there and never will"
        case .stranger: "there is nothing for this link"
        case .busy: "a newer link is up"
        case nil: ""
        }
    }

    private func total(_ figure: KeyPath<InspectedBlock, UInt64?>) -> UInt64 {
        (blocks ?? []).reduce(0) { $0 &+ ($1[keyPath: figure] ?? 0) }
    }
}

extension InspectedBlock {
    /// One line for each block.
    /// - Parameter nameWidth: of the longest name of all blocks.
    static func table(_ blocks: [InspectedBlock], nameWidth: Int) -> [String] {
        let sides: [TextColumns.Side] = [.left, .right, .right, .right, .left, .left]
        let hasPages = blocks.contains { $0.normal != nil }
        let widthsMin = hasPages ? [nameWidth, pagesWidth, pagesWidth] : [nameWidth, 0, 0, 8]
        return TextColumns(sides, widthsMin: widthsMin).lines(
            blocks.map { block in
                [
                    PeerText.plain(block.name),
                    block.pieces ?? some(block.normal, "normal"),
                    some(block.zero, "zero"),
                    block.bytes.map(InspectionText.size) ?? "",
                    block.place,
                    block.runs.flatMap { $0 > 1 ? "\($0) runs" : nil } ?? "",
                ]
            })
    }

    /// As in "99999 normal".
    private static let pagesWidth = 12

    private static func some(_ count: UInt64?, _ what: String) -> String {
        guard let count, count > 0 else { return "" }
        return "\(count) \(what)"
    }

    private var pieces: String? {
        ranges.map { Readable.count($0, "range", "ranges") }
            ?? requests.map { Readable.count($0, "request", "requests") }
            ?? received.map { "\($0) received" }
    }

    private var place: String {
        if let pageSize {
            return pageSize == PageSize.target.bytes
                ? "" : "pages of \(InspectionText.size(pageSize))"
        }
        guard let from, let to else { return "" }
        return "\(InspectionText.hex(from))..\(InspectionText.hex(to))"
    }
}

extension InspectionText {
    static func verdict(_ text: String) -> [String] { [margin + text] }

    /// What the channels brought, by block, and in all.
    static func totals(_ document: InspectionDocument) -> [String] {
        guard let memory = document.memory, !memory.isEmpty else { return [] }
        let figures: [KeyPath<InspectedMemory, UInt64>] = [
            \.normal, \.zero, \.discarded, \.owed, \.absent,
        ]
        var rows = [["memory", "length", "normal", "zero", "discarded", "owed", "absent"]]
        for block in memory {
            rows.append(
                [PeerText.plain(block.name), size(block.bytes)]
                    + figures.map { "\(block[keyPath: $0])" })
        }
        if memory.count > 1 {
            let bytes = memory.reduce(UInt64(0)) { $0 &+ $1.bytes }
            let sums = figures.map { figure in
                "\(memory.reduce(UInt64(0)) { $0 &+ $1[keyPath: figure] })"
            }
            rows.append(["in all", size(bytes)] + sums)
        }
        let sides: [TextColumns.Side] = [.left] + Array(repeating: .right, count: 6)
        return [""] + TextColumns(sides).lines(rows).map { margin + $0 }
    }
}
