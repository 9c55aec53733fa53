internal import Postcopy
internal import StreamWire

/// Takes what the channels show, in their order: prints it at once, and keeps it for the document.
final class InspectionReport {
    private(set) var document: InspectionDocument
    private let stream: StandardStream?
    private var channel: WritableKeyPath<InspectionDocument, InspectedChannel>
    private var text = InspectionText(offsetDigits: 8)
    private var nameWidth = 0
    /// Rows of the document so far: items, and what they have of blocks and devices.
    private var kept = 0

    private init(main path: String, stream: StandardStream?) {
        document = InspectionDocument(main: InspectedChannel(file: path))
        self.stream = stream
        channel = \.main
    }

    /// Reads the channels of a migration, the main one first, which knows the guest.
    /// - Parameter stream: where the text goes, if anywhere.
    /// - Throws: `Refusal` when a file cannot be read on.
    static func document(
        of main: ChannelFile, _ others: [(ChannelRole, ChannelFile)], detail: InspectionDetail,
        stream: StandardStream?
    ) throws -> InspectionDocument {
        let report = InspectionReport(main: main.path, stream: stream)
        report.begin(.main, main)
        let inspection = MainChannelInspection(main, report, detail: detail)
        try inspection.run()
        for (role, file) in others {
            report.begin(role, file)
            guard let guest = inspection.guest else {
                let text = "not read: the main channel names no RAM blocks"
                report.add(InspectedProblem(offset: 0, text: text, endsReading: true))
                continue
            }
            let blocks = inspection.listedBlocks
            if role == .returnPath {
                var path = ReturnPathInspection(file, report, detail: detail, blocks: blocks)
                try path.run()
            } else {
                var channel = PreemptInspection(
                    file, report, detail: detail, guest: guest, blocks: blocks)
                try channel.run()
            }
        }
        report.finish(
            inspection.guest, preemptWasRead: others.contains { $0.0 == .preempt })
        return report.document
    }

    /// Begins with a channel; what is added from now on is of this one.
    private func begin(_ role: ChannelRole, _ file: ChannelFile) {
        if role != .main { write([""]) }
        switch role {
        case .main: channel = \.main
        case .returnPath:
            document.returnPath = InspectedChannel(file: file.path)
            channel = \.returnPath.unwrapped
        case .preempt:
            document.preempt = InspectedChannel(file: file.path)
            channel = \.preempt.unwrapped
        }
        text = InspectionText(offsetDigits: Self.digits(of: file.lengthBytes))
        text.nameWidth = nameWidth
        write(text.title(role, file))
    }

    func add(_ item: InspectedItem) {
        if item.kind == .blockList {
            nameWidth = (item.blocks ?? []).map { PeerText.plain($0.name).count }.max() ?? 0
            text.nameWidth = nameWidth
        }
        write(text.lines(of: item))
        kept += 1 + (item.blocks?.count ?? 0) + (item.devices?.count ?? 0)
        if kept <= InspectionDocument.rowsMax {
            document[keyPath: channel].items.append(item)
        } else {
            document[keyPath: channel].itemsOmitted =
                (document[keyPath: channel].itemsOmitted ?? 0) + 1
        }
    }

    /// Whether a further problem of this channel is told, and not only counted.
    var tellsProblems: Bool {
        document[keyPath: channel].problems.count < InspectionDocument.problemsMax
    }

    func add(_ problem: InspectedProblem) { add(problem, excerpt: []) }

    /// Reports what is wrong with bytes, and shows them.
    func add(_ error: WireError, _ file: ChannelFile, endsReading: Bool) {
        let excerpt = HexExcerpt.lines(
            of: file.bytes, from: file.position - UInt64(file.start), markAt: error.position)
        add(
            InspectedProblem(
                offset: error.position, text: error.reasonInFile, endsReading: endsReading),
            excerpt: excerpt)
    }

    /// Reports what ends the reading of a channel.
    func stop(_ error: WireError, _ file: ChannelFile) { add(error, file, endsReading: true) }

    private func add(_ problem: InspectedProblem, excerpt: [String]) {
        document.status = "wrong"
        guard tellsProblems || problem.endsReading else {
            document[keyPath: channel].problemsOmitted =
                (document[keyPath: channel].problemsOmitted ?? 0) + 1
            return
        }
        document[keyPath: channel].problems.append(problem)
        write(text.lines(of: problem, excerpt: excerpt))
    }

    /// Ends the channel that was begun last.
    func end(atByte position: UInt64) {
        document[keyPath: channel].bytes = position
        if let omitted = document[keyPath: channel].problemsOmitted {
            write(text.omitted(omitted))
        }
    }

    /// Tells what the channels brought together.
    private func finish(_ guest: GuestCheck?, preemptWasRead: Bool) {
        document.memory = guest?.coverage.figures
        write(InspectionText.totals(document))
        let ending = guest?.ending(preemptWasRead: preemptWasRead) ?? .open
        document.ending = ending.text
        guard let text = ending.text, document.status == "good" else { return }
        write([""])
        if case .lost = ending {
            channel = \.main
            add(InspectedProblem(offset: document.main.bytes, text: text, endsReading: false))
        } else {
            write(InspectionText.verdict(text))
        }
    }

    private func write(_ lines: [String]) {
        stream?.write(lines.map { "\($0)\n" }.joined())
    }

    private static func digits(of lengthBytes: UInt64?) -> Int {
        max(8, String(lengthBytes ?? 0xff_ffff_ffff, radix: 16).count)
    }
}

/// Which channel of a migration a file holds.
enum ChannelRole: String {
    case main = "main channel"
    case returnPath = "return path"
    case preempt = "preempt channel"
}

/// How much is told one by one.
enum InspectionDetail: Int, Comparable {
    /// Sections and commands of one kind in a row are one line.
    case summary
    /// Each section, command and message is a line.
    case sections
    /// Each stretch of pages and each discarded range is a line.
    case runs

    static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

extension WireError {
    /// The reason in words that fit a file, which nobody closed.
    fileprivate var reasonInFile: String {
        guard case .truncated(let reading) = kind else { return reason }
        return "the file ends in the middle of \(reading)"
    }
}

extension Optional {
    /// A value that is known to be there, for key paths.
    fileprivate var unwrapped: Wrapped {
        get {
            guard let self else { preconditionFailure("the channel was begun") }
            return self
        }
        set { self = newValue }
    }
}
