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

    /// Reads the links of a migration in their order. The main channel of the first knows the guest.
    /// - Parameter stream: where the text goes, if anywhere.
    /// - Throws: `Refusal` when a file cannot be read on.
    static func document(
        of links: [LinkFiles], detail: InspectionDetail, stream: StandardStream?
    ) throws -> InspectionDocument {
        let report = InspectionReport(main: links[0].main.path, stream: stream)
        var first: MainChannelInspection?
        for (number, link) in links.enumerated() {
            let isContinued = number + 1 < links.count
            report.begin(.main, link.main, ofLink: number)
            if let first, first.guest?.hasListened != true {
                report.addUnread("the first link did not get to the postcopy")
                continue
            }
            let inspection =
                first.map { MainChannelInspection(link.main, report, detail: detail, resuming: $0) }
                ?? MainChannelInspection(link.main, report, detail: detail)
            inspection.isContinued = isContinued
            try inspection.run()
            if first == nil { first = inspection }
            try report.readOthers(of: link, number: number, inspection, isContinued: isContinued)
        }
        report.finish(
            first?.guest, preemptWasRead: links.allSatisfy { $0.preempt != nil })
        return report.document
    }

    /// Reads what a link has beside its main channel.
    private func readOthers(
        of link: LinkFiles, number: Int, _ inspection: MainChannelInspection, isContinued: Bool
    ) throws {
        let others = [(ChannelRole.returnPath, link.returnPath), (.preempt, link.preempt)]
        for case (let role, let file?) in others {
            begin(role, file, ofLink: number)
            guard let guest = inspection.guest else {
                addUnread("the main channel names no RAM blocks")
                continue
            }
            let blocks = inspection.listedBlocks
            if role == .returnPath {
                var path = ReturnPathInspection(
                    file, self, detail: inspection.detail, blocks: blocks,
                    isResumed: number > 0, isContinued: isContinued)
                try path.run()
            } else {
                var channel = PreemptInspection(
                    file, self, detail: inspection.detail, guest: guest, blocks: blocks,
                    isContinued: isContinued)
                try channel.run()
            }
        }
    }

    private func addUnread(_ reason: String) {
        add(InspectedProblem(offset: 0, text: "not read: \(reason)", endsReading: true))
    }

    /// Begins with a channel; what is added from now on is of this one.
    /// - Parameter number: of its link, 0 for the first.
    private func begin(_ role: ChannelRole, _ file: ChannelFile, ofLink number: Int) {
        if role != .main || number > 0 { write([""]) }
        let begun = InspectedChannel(file: file.path)
        switch (role, number) {
        case (.main, 0): channel = \.main
        case (.returnPath, 0):
            document.returnPath = begun
            channel = \.returnPath.unwrapped
        case (.preempt, 0):
            document.preempt = begun
            channel = \.preempt.unwrapped
        case (.main, _):
            document.resumed = (document.resumed ?? []) + [InspectedLink(main: begun)]
            channel = \.resumed.unwrapped[number - 1].main
        case (.returnPath, _):
            document.resumed?[number - 1].returnPath = begun
            channel = \.resumed.unwrapped[number - 1].returnPath.unwrapped
        case (.preempt, _):
            document.resumed?[number - 1].preempt = begun
            channel = \.resumed.unwrapped[number - 1].preempt.unwrapped
        }
        text = InspectionText(offsetDigits: Self.digits(of: file.lengthBytes))
        text.nameWidth = nameWidth
        write(text.title(role, file, ofLink: number))
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
            let last = document.resumed?.count ?? 0
            channel = last == 0 ? \.main : \.resumed.unwrapped[last - 1].main
            let place = document[keyPath: channel].bytes
            add(InspectedProblem(offset: place, text: text, endsReading: false))
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

/// The files of one link.
struct LinkFiles {
    let main: ChannelFile
    var returnPath: ChannelFile?
    var preempt: ChannelFile?
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
