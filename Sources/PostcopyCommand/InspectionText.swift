internal import Postcopy
internal import StreamWire

/// An inspection as people read it: a line for each item with its offset and its size, and below it
/// what it has of each RAM block or device.
struct InspectionText {
    private let offsetWidth: Int

    private static let margin = "  "
    /// As in "1023 KiB".
    private static let sizeWidth = 8
    /// As in OPEN_RETURN_PATH.
    private static let labelWidth = 16

    init(offsetDigits: Int) { offsetWidth = offsetDigits + 2 }

    func title(_ role: ChannelRole, _ file: ChannelFile) -> [String] {
        let name = file.path == "-" ? "standard input" : PeerText.plain(file.path)
        let size = file.lengthBytes.map { ", \(Readable.bytes($0))" } ?? ""
        return ["\(role.rawValue): \(name)\(size)", "", row("offset", "size", "")]
    }

    func lines(of item: InspectedItem, detail: InspectionDetail) -> [String] {
        let label = TextColumns.left(Self.label(of: item), Self.labelWidth)
        let text = item.summary
        let first = row(
            Self.hex(item.offset), Readable.bytes(item.bytes),
            text.isEmpty ? label : "\(label)  \(text)")
        return [first] + details(of: item)
    }

    /// Flush with the items, and set apart from them.
    func lines(of problem: InspectedProblem, excerpt: [String]) -> [String] {
        let indent = String(repeating: " ", count: Self.margin.count + offsetWidth + 2)
        let head = row(Self.hex(problem.offset), "WRONG", PeerText.plain(problem.text))
        guard !excerpt.isEmpty else { return [head] }
        return [head, ""] + excerpt.map { indent + $0 } + [""]
    }

    func omitted(_ problems: UInt64) -> [String] {
        [row("", "", "\(problems) more like these")]
    }

    private func details(of item: InspectedItem) -> [String] {
        let parts = (item.subsections ?? []).map { under(PeerText.plain($0)) }
        let blocks = InspectedBlock.table(item.blocks ?? []).map(under)
        return parts + blocks + deviceLines(item)
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
            row(Self.hex(device.offset), Readable.bytes(device.bytes), Self.margin + text)
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

    static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}

extension InspectionText {
    /// What the wire calls an item.
    private static func label(of item: InspectedItem) -> String {
        switch item.kind {
        case .head: "head"
        case .blockList: "ram start"
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
        case .blockList:
            "section \(section ?? 0), \(Readable.count(UInt64(blocks?.count ?? 0), "block", "blocks"))"
                + " of \(Readable.bytes(total(\.bytes)))"
        case .pages: pagesSummary
        case .discards:
            "\(Readable.count(total(\.ranges), "range", "ranges")) of \(Readable.bytes(total(\.bytes)))"
        case .requests: "\(Readable.bytes(total(\.bytes))) asked for"
        case .advise: adviseSummary
        case .package:
            "\(deviceCount), PING \((pings ?? []).map { InspectionText.number(UInt64($0)) }.joined(separator: " "))"
        case .devices: deviceCount
        case .description:
            value.map { "JSON of \(Readable.count($0, "device", "devices"))" } ?? "no JSON"
        case .openReturnPath, .ping, .listen, .run, .switchoverStart, .endOfStream, .trailing,
            .pong, .shut, .end:
            ""
        }
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
        return "pages of \(sizes.map(Readable.bytes).joined(separator: " and "))"
    }

    private func total(_ figure: KeyPath<InspectedBlock, UInt64?>) -> UInt64 {
        (blocks ?? []).reduce(0) { $0 &+ ($1[keyPath: figure] ?? 0) }
    }
}

extension InspectedBlock {
    /// One line for each block.
    static func table(_ blocks: [InspectedBlock]) -> [String] {
        TextColumns([.left, .right, .right, .right, .right, .right, .right, .left]).lines(
            blocks.map { block in
                [
                    PeerText.plain(block.name),
                    block.normal.map { "\($0) normal" } ?? "",
                    block.zero.map { "\($0) zero" } ?? "",
                    block.runs.map { Readable.count($0, "run", "runs") } ?? "",
                    block.ranges.map { Readable.count($0, "range", "ranges") } ?? "",
                    block.requests.map { Readable.count($0, "request", "requests") } ?? "",
                    block.bytes.map(Readable.bytes) ?? "",
                    block.place,
                ]
            })
    }

    private var place: String {
        if let pageSize { return "pages of \(Readable.bytes(pageSize))" }
        guard let from, let to else { return "" }
        return "\(InspectionText.hex(from))..\(InspectionText.hex(to))"
    }
}

extension InspectionText {
    /// What the channels brought, by block.
    static func totals(_ document: InspectionDocument) -> [String] {
        guard let memory = document.memory, !memory.isEmpty else { return [] }
        let head = [
            "memory", "length", "pages of", "normal", "zero", "discarded", "owed", "absent",
        ]
        let rows = memory.map { block in
            [
                PeerText.plain(block.name), Readable.bytes(block.bytes),
                Readable.bytes(block.pageSize), "\(block.normal)", "\(block.zero)",
                "\(block.discarded)", "\(block.owed)", "\(block.absent)",
            ]
        }
        let sides: [TextColumns.Side] = [.left] + Array(repeating: .right, count: 7)
        return [""] + TextColumns(sides).lines([head] + rows).map { margin + $0 }
    }
}
