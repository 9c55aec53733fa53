internal import Postcopy
internal import StreamWire

/// Reads the main channel to its end, or to where it is wrong, and reports each item.
final class MainChannelInspection {
    let file: ChannelFile
    let report: InspectionReport
    let detail: InspectionDetail
    /// Whether another link takes the migration up where this one ends.
    var isContinued = false
    private(set) var decoder = StreamDecoder(blocks: [], machineType: nil)
    /// What is wrong with the beginning, up to the end of the list of RAM blocks.
    private var beginningProblem: WireError?
    /// The guest, once its blocks are known.
    private(set) var guest: GuestCheck?
    var row = OpenRow.none
    var devices = DeviceBytes()

    init(_ file: ChannelFile, _ report: InspectionReport, detail: InspectionDetail) {
        self.file = file
        self.report = report
        self.detail = detail
    }

    /// Reads the main channel of a link that takes up the migration of `first`.
    convenience init(
        _ file: ChannelFile, _ report: InspectionReport, detail: InspectionDetail,
        resuming first: MainChannelInspection
    ) {
        self.init(file, report, detail: detail)
        guard let guest = first.guest, let section = first.decoder.ramSection else {
            preconditionFailure("the first link brought the guest")
        }
        guest.beginLink()
        self.guest = guest
        decoder = StreamDecoder(
            resuming: first.listedBlocks, ramSection: section, acceptsExtensions: true)
    }

    /// - Throws: `Refusal` when the file cannot be read on.
    func run() throws {
        if guest == nil { try introduce() }
        while try step() {}
        report.end(atByte: decoder.position)
    }

    /// Learns the blocks from the beginning, which stays unread. Without them as much is read as makes
    /// sense.
    private func introduce() throws {
        var ignoresShared = false
        var introduction: StreamIntroduction?
        while introduction == nil {
            do throws(WireError) {
                let step = try file.decode { bytes, _ throws(WireError) in
                    try StreamIntroduction.decode(bytes, ignoresShared: ignoresShared)
                }
                if case .item(let found, _) = step { introduction = found }
            } catch {
                guard error.kind == .ignoreSharedDiffers(ours: false) else {
                    beginningProblem = error
                    return
                }
                ignoresShared = true
                decoder = StreamDecoder(blocks: [], machineType: nil, ignoresShared: true)
                continue
            }
            if introduction == nil, try !file.fill() { return }
        }
        guard let introduction else { return }
        let guest = try GuestCheck(introduction.blocks)
        decoder = StreamDecoder(
            blocks: guest.listed, machineType: nil, ignoresShared: ignoresShared)
        self.guest = guest
    }

    /// Reads one item; answers whether another may follow.
    private func step() throws -> Bool {
        let place = decoder.position
        if let beginningProblem, place >= beginningProblem.position {
            stop(beginningProblem)
            return false
        }
        let step: Decoded<StreamItem>
        do throws(WireError) {
            step = try file.decode { bytes, start throws(WireError) in
                try decoder.next(in: bytes, from: start)
            }
        } catch {
            // A list that is cut short has blocks that nobody knows.
            let cut = WireError(
                kind: .truncated(reading: .blockList), position: place + UInt64(file.unreadCount))
            stop(beginningProblem ?? (guest == nil ? cut : error))
            return false
        }
        switch step {
        case .needMoreBytes:
            if try file.fill() { return true }
            end()
            return false
        case .item(let item, let consumed):
            do throws(WireError) { try take(item, at: place, lengthBytes: consumed) } catch {
                stop(error)
                return false
            }
            file.consume(consumed)
            return true
        }
    }

    /// The file has ended.
    private func end() {
        finishRow(at: decoder.position)
        finishPackage()
        let (items, problem) = devices.endTail()
        for item in items { report.add(item) }
        let cut = decoder.endOfInput(unread: file.unreadCount)
        if isContinued, guest?.hasListened == true, problem == nil, cut != nil {
            report.add(.linkLost(at: decoder.position))
        } else if let problem = problem ?? cut {
            stop(problem)
        } else if devices.tail != nil, let text = guest?.takeEnd() {
            tell(text, at: decoder.position)
        }
    }

    /// Reports what ends the reading.
    private func stop(_ error: WireError) {
        finishRow(at: decoder.position)
        finishPackage()
        report.stop(error, file)
    }

    /// Reports a package that the end of the file or an error cut short.
    private func finishPackage() {
        if devices.isInPackage { report.add(devices.endPackage(isWhole: false).item) }
    }

    /// Reports what no destination would take of the item read last, and goes on.
    func tell(_ text: String?, at place: UInt64) {
        guard let text else { return }
        if report.tellsProblems { finishRow(at: decoder.position) }
        report.add(InspectedProblem(offset: place, text: text, endsReading: false))
    }

    /// The source asks for extensions, and then may use them.
    func noteExtensions() { decoder.noteExtensions() }

    /// The guest's blocks in the lengths that they had last.
    var listedBlocks: [ListedBlock] {
        (guest?.listed ?? []).enumerated().map { index, block in
            ListedBlock(
                block.geometry, usedBytes: decoder.usedBytes(of: BlockIndex(rawValue: index)),
                isResizable: true)
        }
    }

    func finishRow(at end: UInt64) {
        if let item = row.item(endingAt: end, names: guest?.names ?? []) { report.add(item) }
        row = .none
    }
}
