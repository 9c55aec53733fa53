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
    let link: DestinationLink
    private(set) var decoder: StreamDecoder
    var placer: PagePlacer
    private var recorder: PlacementRecorder
    var package: [UInt8] = []
    var packagePosition: UInt64 = 0
    /// The devices of a guest that came whole while it ran at the source.
    var tail: DeviceTail?
    var stage = MemoryStage.filling
    private var opening: [UInt8]
    /// Target pages that were filled with something, by block: a zero that comes later must clear them.
    let filled: [PageBitmap]
    var hasEnded = false
    /// What the urgent channel had brought when it was last looked at after the stream's end.
    private var urgentBefore: UInt64 = 0
    private var isReturnPathOpen: Bool
    private var bitmapsAsked: Set<BlockIndex> = []
    /// Where the item that is being obeyed begins.
    var itemPosition: UInt64 = 0

    /// Takes one command (64 KiB at most) or a run of pages whole; more only waits in user memory
    /// instead of the socket.
    private static let bufferBytes = 512 << 10

    init(state: DestinationState, link: DestinationLink) {
        self.state = state
        self.link = link
        opening = link.opening
        placer = PagePlacer(state: state, channel: .background, isResumed: link.isResumed)
        recorder = PlacementRecorder(state: state, isUrgent: false)
        isReturnPathOpen = link.isResumed
        guard !link.isResumed else {
            decoder = StreamDecoder(
                resuming: state.list.listed,
                ramSection: state.ramSection.load(ordering: .acquiring),
                basePage: HostMemory.pageSize, acceptsExtensions: state.isSourceOurs)
            stage = .faulting
            filled = []
            return
        }
        decoder = StreamDecoder(
            blocks: state.list.listed, machineType: state.guest.machineType,
            ignoresShared: state.list.ignoresShared, basePage: HostMemory.pageSize)
        filled = state.geometries.map {
            PageBitmap(pageCount: $0.targetPageCount, allSet: false)
        }
    }

    /// Reads until the source closes, and reports what ended it.
    mutating func run() {
        preferShortSlices()
        if link.isResumed {
            link.main.socket.limitReceives(nanoseconds: state.options.handshakeNanosecondsMax)
        }
        do throws(StreamTrouble) { try read() } catch { report(error) }
        recorder.leave(to: state.placements)
        link.streamEnded.raise()
    }

    private func report(_ trouble: StreamTrouble) {
        switch trouble {
        case .wire(let error):
            state.report(.peerMisbehaved, problem: "the source broke the protocol: \(error)")
        case .link(.again):
            state.report(state.silence, problem: "the source kept silent")
        case .link(let error):
            state.report(state.linkLoss, problem: "the link to the source failed: \(error)")
        case .closed(let error):
            state.report(state.linkLoss, problem: "the link to the source ended: \(error)")
        case .owing(let problem):
            state.report(state.linkLoss, problem: problem)
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
            do { received = try buffer.fill(from: link.main.socket, wait: true) ?? 0 } catch {
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
        state.counters.noteReceived(received)
        let consumed = try buffer.withBytes { bytes throws(StreamTrouble) in try decode(bytes) }
        buffer.consume(consumed)
        try settle { placer throws(PlacingError) in try placer.flush() }
    }

    var missingPages: Int { state.demand.missing.load(ordering: .relaxed) }

    /// Silence after the end of the stream: pages that are missing must be coming on the urgent
    /// channel, be it piece by piece. With none missing the source owes nothing more.
    private mutating func checkPagesAfterEnd(_ error: Errno) throws(StreamTrouble) {
        guard error == .again else { throw .link(error) }
        let (missing, urgent) = (missingPages, urgentTargetPages)
        guard missing == 0 || urgent > urgentBefore else {
            throw .owing("the source ended its stream and still owes \(missing) pages")
        }
        urgentBefore = urgent
    }

    private var urgentTargetPages: UInt64 {
        state.counters.urgentTargetPages.load(ordering: .relaxed)
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
            urgentBefore = urgentTargetPages
            try advance(.endOfStream)
        case .deviceTail(let range): try takeTail(bytes, range, at: position)
        // A source of ours has nothing else to say once it was told that all is well.
        case .trailing: link.isAcknowledged.store(true, ordering: .releasing)
        case .sectionStart, .sectionResumed, .blockListed, .sectionEnd: break
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
            let answer = state.recovery.answer(toPing: value)
            if state.isSourceOurs { decoder.noteExtensions() }
            // One of ours pings to show that it lives, also while a long bitmap goes out.
            guard state.outbox.offer(.message(answer)) || state.isSourceOurs else {
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
        case .receivedBitmap(let block):
            let action = state.advance(.bitmapAsked, at: position)
            guard action == .sendBitmap else { return try leave(action) }
            // A bit for each page of a host's memory: not as often as somebody likes.
            guard bitmapsAsked.insert(block).inserted,
                state.outbox.offer(.receivedBitmap(block))
            else {
                throw .refused(
                    "the source broke the protocol: it asks twice for the bitmap of one block, at "
                        + "byte \(position)")
            }
        case .postcopyResume:
            let action = state.advance(.resume, at: position)
            if action == .resumePages {
                state.recovery.noteResumed()
                expectHeartbeats()
                state.outbox.post(.resume)
            }
            try leave(action)
        case .hello:
            throw .refused("the source broke the protocol: a second hello, at byte \(position)")
        // The last word of a source that was told how it ended; before the end it says nothing.
        case .heartbeat: link.isAcknowledged.store(true, ordering: .releasing)
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
        recorder.note(placed)
        guard state.demand.isAwaited(placed.pages, of: placed.block) else { return }
        // Full: the guest's waiters run already, but clients wait until the fault thread has looked at all
        // that was asked for.
        guard !state.notices.offer(placed) else { return }
        state.hasLostNotices.store(true, ordering: .releasing)
        state.faultFlag.raise()
    }
}
