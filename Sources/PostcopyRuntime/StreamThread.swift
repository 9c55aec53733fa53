internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// Why the stream ends before its time.
enum StreamTrouble: Error {
    case wire(WireError)
    case link(Errno)
    case closed(WireError)
    /// The stream has ended and pages are missing.
    case owing(String)
    /// The phases ended the migration and said why.
    case over
    /// The migration cannot go on, and the source can be told so.
    case refused(String)
}

/// How the stream thread treats the guest's memory.
enum MemoryStage {
    /// Pages are written; what did not come is zero, and what was discarded is stale.
    case filling
    /// What did not come is missing, and is placed.
    case faulting
}

/// The destination's reader of the main channel: decodes, obeys commands, places background pages.
struct StreamThread: ~Copyable {
    let state: DestinationState
    private let link: DestinationLink
    private(set) var decoder: StreamDecoder
    var placer: PagePlacer
    var package: [UInt8] = []
    var packagePosition: UInt64 = 0
    /// The devices of a guest that came whole while it ran at the source.
    var tail: DeviceTail?
    var stage = MemoryStage.filling
    private var opening: [UInt8]
    /// Target pages that were filled with something, by block: a zero that comes later must clear them.
    let filled: [PageBitmap]
    var hasEnded = false
    /// Pages that were missing when the stream was last heard after its end.
    private var missingBefore = Int.max
    private var isReturnPathOpen = false
    /// Where the item that is being obeyed begins.
    var itemPosition: UInt64 = 0

    /// Takes one command (64 KiB at most) or a run of pages whole; more only waits in user memory
    /// instead of the socket.
    private static let bufferBytes = 512 << 10

    /// - Parameter opening: what was received of the channel before, from its first byte.
    init(state: DestinationState, link: DestinationLink, opening: [UInt8]) {
        self.state = state
        self.link = link
        self.opening = opening
        decoder = StreamDecoder(
            blocks: state.list.listed, machineType: state.guest.machineType,
            ignoresShared: state.list.ignoresShared, basePage: HostMemory.pageSize)
        placer = PagePlacer(state: state, channel: .background)
        filled = state.geometries.map {
            PageBitmap(pageCount: $0.targetPageCount, allSet: false)
        }
    }

    /// Reads until the source closes, and reports what ended it.
    mutating func run() {
        preferShortSlices()
        do throws(StreamTrouble) { try read() } catch { report(error) }
        link.streamEnded.raise()
    }

    private func report(_ trouble: StreamTrouble) {
        switch trouble {
        case .wire(let error):
            state.report(.peerMisbehaved, problem: "the source broke the protocol: \(error)")
        case .link(.again):
            state.report(.deadlinePassed, problem: "the source kept silent")
        case .link(let error):
            state.report(.linkLost, problem: "the link to the source failed: \(error)")
        case .closed(let error):
            state.report(.linkLost, problem: "the link to the source ended: \(error)")
        case .owing(let problem):
            state.report(.linkLost, problem: problem)
        case .refused(let problem):
            state.report(.peerMisbehaved, problem: problem)
        case .over: break
        }
    }

    private mutating func read() throws(StreamTrouble) {
        var buffer = ReceiveBuffer(capacityBytes: Self.bufferBytes)
        if !opening.isEmpty {
            buffer.append(opening)
            try take(opening.count, in: &buffer)
            opening = []
        }
        while true {
            let received: Int
            do { received = try buffer.fill(from: link.main, wait: true) ?? 0 } catch {
                guard hasEnded else { throw .link(error) }
                try checkPagesAfterEnd(error)
                continue
            }
            guard received > 0 else {
                if let error = decoder.endOfInput(unread: buffer.count) { throw .closed(error) }
                if tail != nil, !hasEnded {
                    throw .closed(
                        WireError(
                            kind: .truncated(reading: .deviceTail), position: decoder.position))
                }
                if state.currentPhase == .completed { return }
                throw .owing("the source closed the link and still owes \(missingPages) pages")
            }
            try take(received, in: &buffer)
        }
    }

    /// Obeys what is whole behind the `received` bytes that came last.
    private mutating func take(
        _ received: Int, in buffer: inout ReceiveBuffer
    ) throws(StreamTrouble) {
        state.counters.receivedBytes.add(UInt64(received), ordering: .relaxed)
        let consumed = try buffer.withBytes { bytes throws(StreamTrouble) in try decode(bytes) }
        buffer.consume(consumed)
        try settle { placer throws(PlacingError) in try placer.flush() }
    }

    var missingPages: Int { state.demand.missing.load(ordering: .relaxed) }

    /// Silence after the end of the stream: pages that are missing must be coming on the urgent
    /// channel. With none missing the source owes nothing more.
    private mutating func checkPagesAfterEnd(_ error: Errno) throws(StreamTrouble) {
        guard error == .again else { throw .link(error) }
        let missing = missingPages
        guard missing == 0 || missing < missingBefore else {
            throw .owing("the source ended its stream and still owes \(missing) pages")
        }
        missingBefore = missing
    }

    private mutating func decode(_ bytes: Span<UInt8>) throws(StreamTrouble) -> Int {
        var start = 0
        while true {
            let position = decoder.position
            let step: Decoded<StreamItem>
            do { step = try decoder.next(in: bytes, from: start) } catch { throw .wire(error) }
            guard case .item(let item, let consumed) = step else { return start }
            itemPosition = position
            try take(item, bytes, at: position)
            start += consumed
        }
    }

    private mutating func take(
        _ item: StreamItem, _ bytes: Span<UInt8>, at position: UInt64
    ) throws(StreamTrouble) {
        switch item {
        case .page(let block, let offset, let payload):
            try takePage(bytes, payload, at: offset, of: block)
        case .zeroPage(let block, let offset):
            try takePage(bytes, nil, at: offset, of: block)
        case .head: try advance(.headReceived)
        case .command(let command): try obey(command, at: position)
        case .memorySize: try advance(.blockList)
        case .blockList(let count): try takeBlockList(count: count)
        case .packageBytes(let range, let isLast):
            if package.isEmpty { packagePosition = position }
            for index in range { package.append(bytes[index]) }
            if isLast { try unpack() }
        case .endOfStream:
            try settle { placer throws(PlacingError) in try placer.flush() }
            guard placer.isIdle else {
                throw .wire(WireError(kind: .truncated(reading: .ramRecord), position: position))
            }
            hasEnded = true
            missingBefore = missingPages
            try advance(.endOfStream)
        case .deviceTail(let range): try takeTail(bytes, range, at: position)
        case .sectionStart, .sectionResumed, .blockListed, .sectionEnd, .trailing:
            break
        }
    }

    private mutating func obey(_ command: Command, at position: UInt64) throws(StreamTrouble) {
        switch command {
        case .openReturnPath:
            isReturnPathOpen = true
            try advance(.returnPathOpened)
        case .ping(let value):
            guard isReturnPathOpen else {
                throw .refused(
                    "the source broke the protocol: PING before OPEN_RETURN_PATH at byte "
                        + "\(position)")
            }
            // Recovery is not offered: nothing here takes up a link that broke.
            let offer = ExtensionOffer(
                version: Extensions.version, extensions: .refusalReason, token: nil)
            let answer: ReturnPathMessage =
                Extensions.version(askedBy: value) == nil ? .pong(value) : .extensions(offer)
            guard state.outbox.offer(answer) else {
                throw .refused("the source sends PINGs faster than it takes the answers")
            }
        case .postcopyAdvise(let summary, let targetPage):
            try advise(summary: summary, targetPageBytes: targetPage)
        case .discard(let discard): try takeBack(discard)
        case .packaged(let length):
            package.removeAll()
            if length == 0 { try unpack() }
        case .switchoverStart: break
        case .postcopyListen, .postcopyRun:
            throw .refused(
                "the source broke the protocol: LISTEN or RUN outside a package at byte \(position)"
            )
        case .receivedBitmap, .postcopyResume, .hello, .heartbeat:
            throw .refused(
                "the source broke the protocol: a recovery that nobody offered, at byte \(position)"
            )
        }
    }

    private mutating func takePage(
        _ bytes: Span<UInt8>, _ payload: Range<Int>?, at offset: RAMOffset, of block: BlockIndex
    ) throws(StreamTrouble) {
        guard stage == .faulting else { return store(bytes, payload, at: offset, of: block) }
        try settle { placer throws(PlacingError) in
            try placer.add(bytes, payload, at: offset, of: block)
        }
    }

    private mutating func settle(
        _ placing: (inout PagePlacer) throws(PlacingError) -> PlacedRange?
    ) throws(StreamTrouble) {
        let placed: PlacedRange?
        do { placed = try placing(&placer) } catch .assembly(let error) {
            throw .refused("the source broke the protocol: \(error)")
        } catch { throw .refused(error.description) }
        guard let placed else { return }
        state.settle(placed)
        guard state.demand.isAwaited(placed.pages, of: placed.block) else { return }
        // Full: the waiters run already, and only their blocktime closes late.
        state.notices.offer(placed)
    }
}
