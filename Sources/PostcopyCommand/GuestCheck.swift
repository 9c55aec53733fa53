internal import Postcopy
internal import StreamWire

/// Holds what is well formed against what a destination takes: the order of commands, and which pages
/// may come. Answers what is wrong in words, or `nil`.
final class GuestCheck {
    /// The guest's blocks by the lengths that its stream may still give them.
    let listed: [ListedBlock]
    let names: [String]
    private(set) var coverage: MemoryCoverage
    private let geometries: [BlockGeometry]
    private var assembly: HostPageAssembly
    private var phase = DestinationPhase.none
    private var isReturnPathOpen = false
    private(set) var hasListened = false
    /// The stream came to its end, and no page can follow on it.
    private(set) var hasEnded = false

    /// - Throws: for a list of blocks that no guest can have.
    init(_ blocks: [StreamIntroduction.Block]) throws(GeometryError) {
        names = blocks.map(\.name)
        var geometries: [BlockGeometry] = []
        for block in blocks {
            geometries.append(
                try BlockGeometry(
                    name: block.name, lengthBytes: BlockGeometry.lengthBytesMax,
                    hostPage: block.hostPage))
        }
        self.geometries = geometries
        listed = zip(geometries, blocks).map {
            ListedBlock(
                $0, usedBytes: $1.usedBytes, isResizable: true,
                guestPhysicalAddress: $1.guestPhysicalAddress)
        }
        coverage = MemoryCoverage(
            blocks.map {
                .init(name: $0.name, lengthBytes: $0.usedBytes, pageBytes: $0.hostPage.bytes)
            })
        assembly = HostPageAssembly(blocks: geometries)
    }

    // MARK: Order

    func take(_ command: Command) -> String? {
        switch command {
        case .openReturnPath:
            isReturnPathOpen = true
            return follow(.returnPathOpened, .openReturnPath)
        case .ping:
            return isReturnPathOpen ? nil : "PING before OPEN_RETURN_PATH: nobody can answer it"
        case .postcopyAdvise: return follow(.advise, .advise)
        case .discard(let discard):
            for range in discard.ranges {
                let start = range.start.rawValue
                coverage.discard(discard.block, start..<start + range.lengthBytes)
            }
            return follow(
                .discard(ranges: UInt16(truncatingIfNeeded: discard.ranges.count)), .discard)
        case .postcopyListen, .postcopyRun:
            return "LISTEN or RUN outside the package: no destination takes them there"
        case .packaged, .switchoverStart, .receivedBitmap, .postcopyResume, .hello, .heartbeat:
            return nil
        }
    }

    func takeHead() -> String? { follow(.headReceived, .head) }

    /// A source that has no postcopy sends its list without ADVISE.
    func takeBlockList() -> String? {
        if case .setup = phase { return nil }
        return follow(.blockList, .blockList)
    }

    func takePackage() -> String? {
        let problem = follow(.listen, .listen)
        hasListened = true
        _ = follow(.deviceLoaded, .listen)
        _ = follow(.run, .run)
        return problem
    }

    /// The end of the main channel. Without a package the guest moved by precopy alone.
    func takeEnd() -> String? {
        // A link that broke behind the end ends once more when it is resumed.
        let isFirst = !hasEnded
        hasEnded = true
        guard assembly.isIdle else { return "the stream ends inside a page of a block" }
        return hasListened && isFirst ? follow(.endOfStream, .endOfStream) : nil
    }

    /// Goes to the next phase, or stays where the command has none.
    private func follow(
        _ event: DestinationEvent, _ command: CommandOutOfOrder.Command
    ) -> String? {
        let next = phase.after(event).phase
        switch next {
        case .failed, .paused:
            return "\(CommandOutOfOrder(command, in: phase.name)): no destination takes it then"
        default:
            phase = next
            return nil
        }
    }

    // MARK: Pages

    /// Another link takes the guest up. What was on its way when the last one broke may come again.
    func beginLink() {
        beginChannel()
        coverage.beginLink()
    }

    /// Another channel has its own unfinished pages.
    func beginChannel() { assembly = HostPageAssembly(blocks: geometries) }

    func resize(_ block: Int, to lengthBytes: UInt64) {
        coverage.resize(block, to: lengthBytes)
    }

    func take(_ page: InspectedPage) -> String? {
        let wasThere = coverage.bring(page)
        guard hasListened else { return nil }
        do throws(AssemblyError) {
            _ = try assembly.add(targetPageInBlock: page.offset, of: page.block)
        } catch {
            // The source goes on with the page that came now, and so does this.
            assembly.drop()
            _ = try? assembly.add(targetPageInBlock: page.offset, of: page.block)
            return text(of: error, at: page)
        }
        guard wasThere else { return nil }
        return "\(text(of: page)) came again in the postcopy, and was not discarded"
    }

    private func text(of page: InspectedPage) -> String {
        let name = PeerText.quoted(names[page.block.rawValue])
        return "page \(InspectionText.hex(page.offset.rawValue)) of block \(name)"
    }

    private func text(of error: AssemblyError, at page: InspectedPage) -> String {
        guard case .otherHostPage(_, _, let block, let start) = error else {
            return "\(text(of: page)) came twice in its host page"
        }
        return "\(text(of: page)) came inside the host page at "
            + "\(InspectionText.hex(start.rawValue)) of block "
            + "\(PeerText.quoted(names[block.rawValue])), which was not whole"
    }

    /// What became of the pages that were discarded, once all channels were read that there are.
    enum Ending: Equatable {
        /// The main channel did not come to its end.
        case open
        /// `absent` are pages that never came, and that nobody discarded.
        case complete(byPostcopy: Bool, absent: Int)
        /// Discarded pages that did not come, and may be on a channel that was not given.
        case waiting(pages: Int)
        case lost(pages: Int)
    }

    func ending(preemptWasRead: Bool) -> Ending {
        guard hasEnded else { return .open }
        let pages = coverage.owedPages
        guard hasListened, pages > 0 else {
            return .complete(byPostcopy: hasListened, absent: coverage.absentPages)
        }
        return preemptWasRead ? .lost(pages: pages) : .waiting(pages: pages)
    }
}

extension GuestCheck.Ending {
    /// In a line at the end of the report; `nil` where that has said it.
    var text: String? {
        switch self {
        case .open: nil
        case .complete(let byPostcopy, let absent):
            "complete by \(byPostcopy ? "postcopy" : "precopy")"
                + (absent == 0
                    ? ""
                    : ", without \(Readable.count(UInt64(absent), "page", "pages")): other channels "
                        + "bring them, or the guest has them free or shared")
        case .waiting(let pages):
            "complete but for \(Self.discarded(pages)): on the preempt channel, which --preempt "
                + "reads, or lost"
        case .lost(let pages): "\(Self.discarded(pages)) came on no channel"
        }
    }

    private static func discarded(_ pages: Int) -> String {
        Readable.count(UInt64(pages), "discarded page", "discarded pages")
    }
}
