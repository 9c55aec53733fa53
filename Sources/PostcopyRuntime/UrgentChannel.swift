internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire

/// The destination's end of the preempt channel: bare page records, ended by an end-of-section record.
/// Until the first valid record it is only somebody who connected. The fault thread owns it.
final class UrgentChannel {
    private let socket: SharedSocket
    private let list: BlockList
    private var buffer: ReceiveBuffer
    private var decoder: RAMRecordDecoder
    private var position: UInt64 = 0
    private(set) var hasEnded = false
    /// When it last brought anything.
    private(set) var heardAtNanoseconds: UInt64
    /// Whether bytes are here that were not looked at.
    private(set) var hasUnread: Bool
    private let acceptsHeartbeats: Bool

    /// What one record led to.
    enum Step {
        case placed(PlacedRange)
        /// A part of a huge page, or a heartbeat.
        case kept
        case needMoreBytes
        case ended
    }

    /// Holds a dozen waiting pages: one for each thread that a small host lets fault at once.
    private static let bufferBytes = 64 << 10

    enum Trouble: Error, CustomStringConvertible {
        case wire(WireError)
        case placing(PlacingError)
        /// It is no urgent channel.
        case other(OtherChannel)

        var description: String {
            switch self {
            case .wire(let error): "\(error)"
            case .placing(let error): error.description
            case .other(.multifd):
                "the source has multifd on, which cannot be taken here: switch it off there "
                    + "(migrate_set_capability multifd off)"
            case .other(.migration): "another migration connected"
            }
        }
    }

    init(_ arrival: Arrival, list: BlockList, acceptsHeartbeats: Bool) {
        socket = arrival.socket
        self.list = list
        self.acceptsHeartbeats = acceptsHeartbeats
        heardAtNanoseconds = Monotonic.now()
        hasUnread = !arrival.opening.isEmpty
        buffer = ReceiveBuffer(capacityBytes: Self.bufferBytes)
        buffer.append(arrival.opening)
        decoder = RAMRecordDecoder(blocks: list.listed, acceptsHeartbeats: acceptsHeartbeats)
    }

    /// Receives what is there: its bytes, 0 at the source's end, `nil` when nothing is.
    func fill() throws(Errno) -> Int? {
        let received = try buffer.fill(from: socket.socket, wait: false)
        if received != nil { heardAtNanoseconds = Monotonic.now() }
        return received
    }

    func isWatched(by poller: inout Poller) -> Int { poller.watch(socket.socket) }

    /// Decodes one record and hands its page to `placer`.
    func next(into placer: inout PagePlacer) throws(Trouble) -> Step {
        // Lengths change until LISTEN, and before it no record can be placed.
        if position == 0 {
            decoder = RAMRecordDecoder(blocks: list.listed, acceptsHeartbeats: acceptsHeartbeats)
        }
        hasUnread = false
        var (step, consumed) = (Step.needMoreBytes, 0)
        try buffer.withBytes { bytes throws(Trouble) in
            if position == 0, !acceptsHeartbeats, let other = OtherChannel(beginning: bytes) {
                throw .other(other)
            }
            let decoded: Decoded<RAMRecord>
            do throws(WireError) {
                decoded = try decoder.next(in: bytes, from: 0, position: position)
            } catch { throw .wire(error) }
            guard case .item(let record, let count) = decoded else { return }
            consumed = count
            do throws(PlacingError) {
                switch record {
                case .page(let block, let offset, let payload):
                    step = .init(try placer.add(bytes, payload, at: offset, of: block))
                case .zeroPage(let block, let offset):
                    step = .init(try placer.add(bytes, nil, at: offset, of: block))
                case .heartbeat: step = .kept
                case .endOfSection: step = .ended
                }
            } catch { throw .placing(error) }
        }
        if case .ended = step { hasEnded = true }
        buffer.consume(consumed)
        position += UInt64(consumed)
        return step
    }
}

extension UrgentChannel.Step {
    init(_ placed: PlacedRange?) { self = placed.map(Self.placed) ?? .kept }
}
