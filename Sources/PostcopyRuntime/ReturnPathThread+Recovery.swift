internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// How far a return path has come in taking up a link that broke.
struct RecoveryStage {
    enum Step {
        /// Pages may flow, as on a first link.
        case flows
        /// The destination says how it stands.
        case awaitsAnswer
        case awaitsBitmaps
        case awaitsAcknowledgement
    }

    private(set) var peer: SourceRecovery.Peer?
    var step = Step.flows
    var intake: BitmapIntake?

    init(peer: SourceRecovery.Peer?) { self.peer = peer }

    mutating func learn(_ offer: ExtensionOffer) {
        guard let token = offer.token else { return }
        peer = SourceRecovery.Peer(token: token, extensions: offer.extensions)
    }

    /// The link continues an earlier one. A QEMU says nothing before its bitmaps.
    mutating func begin(on state: SourceState) {
        step = peer == nil ? .awaitsBitmaps : .awaitsAnswer
        intake = BitmapIntake(
            owed: state.owed, pageCounts: state.recoveredPageCounts)
    }

    var awaitsAnswer: Bool { step == .awaitsAnswer }

    /// Whether who speaks must be the destination: it took the token, or sent what only it can know.
    var knowsDestination: Bool {
        switch step {
        case .flows: true
        case .awaitsAnswer: false
        case .awaitsBitmaps, .awaitsAcknowledgement: peer != nil
        }
    }

    /// A QEMU whose fault thread has not noticed the break may ask early; it asks again behind RESUME.
    var mayPassOverRequests: Bool { step != .flows && peer == nil }
}

// What a destination says on a link that continues an earlier one.
extension ReturnPathThread {
    mutating func takeAnswer(_ answer: RecoveryAnswer) throws(Trouble) {
        guard recovery.step == .awaitsAnswer else { throw misplaced("an answer to a hello") }
        if answer == .waiting || answer == .running { recovery.step = .awaitsBitmaps }
        link.welcome.withLock { $0.answer = answer }
        state.controlFlag.raise()
    }

    mutating func takeBitmap(
        _ message: ReturnPathMessage, in bytes: Span<UInt8>
    ) throws(Trouble) {
        guard recovery.step == .awaitsBitmaps else { throw misplaced("a bitmap") }
        switch message {
        case .receivedBitmap(let block):
            do throws(BitmapIntake.Unasked) { try recovery.intake?.begin(block) } catch {
                throw misplaced("a second bitmap of '\(state.geometries[block.rawValue].name)'")
            }
        case .bitmapBytes(let block, let firstWord, let range):
            var word = firstWord
            for start in stride(from: range.lowerBound, to: range.upperBound, by: 8) {
                let received = ReceivedBitmap.word(in: bytes, at: start)
                recovery.intake?.take(received: received, at: word, of: block)
                word += 1
            }
        case .bitmapEnd(let block):
            guard recovery.intake?.end(block) == true else { return }
            recovery.step = .awaitsAcknowledgement
            state.report(.bitmapsReceived, of: link)
        default: preconditionFailure("no part of a bitmap")
        }
    }

    mutating func takeAcknowledgement() throws(Trouble) {
        guard recovery.step == .awaitsAcknowledgement,
            link.asksToResume.load(ordering: .acquiring)
        else { throw misplaced("RESUME_ACK") }
        recovery.step = .flows
        pulse.limit(to: state.options.linkLimitInForce)
        // The outstanding requests are next in the stream.
        state.mayServe.store(true, ordering: .releasing)
        // Only a QEMU whose guest runs can be resumed, and it says so once at the most.
        if recovery.peer == nil { state.report(.committed, of: link) }
        state.report(.resumed, of: link)
    }

    func misplaced(_ what: String) -> Trouble {
        Trouble(
            event: .peerMisbehaved,
            problem: "the destination broke the protocol: \(what) out of turn")
    }

    func silence() -> Trouble {
        let limit = pulse.limitNanoseconds / 1_000_000
        return Trouble(event: .linkLost, problem: "the destination was silent for \(limit) ms")
    }
}

extension SourceState {
    /// The blocks whose bitmaps a recovery needs.
    var recovered: [BlockIndex] {
        list.sent.compactMap { index, ram in ram.usedTargetPages > 0 ? index : nil }
    }

    /// Target pages in use of each of them; `nil` for the other blocks.
    var recoveredPageCounts: [Int?] {
        var counts: [Int?] = Array(repeating: nil, count: blocks.count)
        for block in recovered { counts[block.rawValue] = blocks[block.rawValue].usedTargetPages }
        return counts
    }
}
