import PageModel
import StreamWire
import Testing

/// A decoder of one of the three channels, so that one law can be tested on all of them.
protocol ChannelDecoder: Sendable {
    associatedtype Item: Equatable, Sendable
    var position: UInt64 { get }
    mutating func next(in bytes: Span<UInt8>, from start: Int) throws(WireError) -> Decoded<Item>
    func endOfInput(unread: Int) -> WireError?
}

extension StreamDecoder: ChannelDecoder {}
extension ReturnPathDecoder: ChannelDecoder {}

/// The preempt channel: records, and a position that its user counts.
struct PreemptChannel: ChannelDecoder {
    private var records: RAMRecordDecoder
    private(set) var position: UInt64 = 0

    init(of guest: [BlockGeometry] = blocks, acceptsHeartbeats: Bool = false) {
        records = RAMRecordDecoder(blocks: guest.listed, acceptsHeartbeats: acceptsHeartbeats)
    }

    mutating func next(
        in bytes: Span<UInt8>, from start: Int
    ) throws(WireError) -> Decoded<RAMRecord> {
        let result = try records.next(in: bytes, from: start, position: position)
        if case .item(_, let consumed) = result { position += UInt64(consumed) }
        return result
    }

    func endOfInput(unread: Int) -> WireError? {
        RAMRecordDecoder.endOfInput(unread: unread, position: position)
    }
}

func mainChannel() -> StreamDecoder {
    StreamDecoder(blocks: blocks.listed, machineType: "pc-i440fx-7.2")
}
func returnPath() -> ReturnPathDecoder { ReturnPathDecoder(blocks: blocks.listed, hasAsked: true) }

/// What one step did, as a value that an expectation can hold.
enum Outcome<Item: Equatable & Sendable>: Equatable, Sendable {
    case decoded(Decoded<Item>)
    case refused(WireError)
}

extension ChannelDecoder {
    mutating func step(_ bytes: [UInt8], from start: Int = 0) -> Outcome<Item> {
        do throws(WireError) {
            return .decoded(try next(in: bytes.span, from: start))
        } catch {
            return .refused(error)
        }
    }
}

/// One item of a valid stream, with the decoder as it stood before.
struct Step<Decoder: ChannelDecoder>: Sendable {
    let before: Decoder
    let range: Range<Int>
    let item: Decoder.Item
}

/// The items of a stream that ends between two items.
func steps<Decoder: ChannelDecoder>(
    _ stream: [UInt8], _ start: Decoder
) throws -> [Step<Decoder>] {
    var decoder = start
    var cursor = 0
    var steps: [Step<Decoder>] = []
    while cursor < stream.count {
        let before = decoder
        switch decoder.step(stream, from: cursor) {
        case .decoded(.item(let item, let consumed)):
            let range = cursor..<cursor + consumed
            steps.append(Step(before: before, range: range, item: item))
            cursor += consumed
        case .decoded(.needMoreBytes): return steps
        case .refused(let error): throw error
        }
    }
    return steps
}

/// What a reader sees of an item, wherever its bytes stood: ranges become their content.
enum Observation: Equatable, Sendable {
    case main(StreamItem)
    case message(ReturnPathMessage)
    case record(RAMRecord)
    case page(block: BlockIndex, offset: RAMOffset, [UInt8])
    case package([UInt8])
    case devices([UInt8])
    case trailing([UInt8])
}

/// Appends what is seen of `item`; pieces of a package join.
func observe(_ item: some Equatable & Sendable, in bytes: [UInt8], into seen: inout [Observation]) {
    switch item {
    case let item as StreamItem: observe(item, in: bytes, into: &seen)
    case let message as ReturnPathMessage: seen.append(.message(message))
    case .page(let block, let offset, let payload) as RAMRecord:
        seen.append(.page(block: block, offset: offset, Array(bytes[payload])))
    case let record as RAMRecord: seen.append(.record(record))
    default: preconditionFailure("an item of no channel")
    }
}

private func observe(_ item: StreamItem, in bytes: [UInt8], into seen: inout [Observation]) {
    switch item {
    case .page(let block, let offset, let payload):
        seen.append(.page(block: block, offset: offset, Array(bytes[payload])))
    case .packageBytes(let range, _):
        if case .package(let earlier) = seen.last {
            seen[seen.count - 1] = .package(earlier + bytes[range])
        } else {
            seen.append(.package(Array(bytes[range])))
        }
    case .deviceTail(let range):
        if case .devices(let earlier) = seen.last {
            seen[seen.count - 1] = .devices(earlier + bytes[range])
        } else {
            seen.append(.devices(Array(bytes[range])))
        }
    case .trailing(let range):
        if case .trailing(let earlier) = seen.last {
            seen[seen.count - 1] = .trailing(earlier + bytes[range])
        } else {
            seen.append(.trailing(Array(bytes[range])))
        }
    default: seen.append(.main(item))
    }
}

/// A wait never asks for more than makes the item whole, and is never answered before.
/// - Parameter lengths: of the prefixes that are tried; all by default.
func expectPrefixesWait<Decoder>(
    _ step: Step<Decoder>, in stream: [UInt8], lengths: (Int) -> Bool = { _ in true }
) {
    let isHead = step.range.lowerBound == 0 && stream.starts(with: [0x51])
    let needed = step.range.count + (isHead ? 1 : 0)
    for length in 0..<needed where lengths(length) {
        var decoder = step.before
        let prefix = Array(stream[step.range.lowerBound...].prefix(length))
        guard case .decoded(.needMoreBytes(let wanted)) = decoder.step(prefix) else {
            Issue.record("a prefix of \(length) bytes of \(step.item) did not wait")
            return
        }
        guard wanted > length, wanted <= needed, decoder.position == step.before.position else {
            Issue.record("a prefix of \(length) bytes of \(step.item) wants \(wanted)")
            return
        }
        let whole = decoder.step(stream, from: step.range.lowerBound)
        guard whole == .decoded(.item(step.item, consumed: step.range.count)) else {
            Issue.record("\(step.item) is another item after \(length) bytes: \(whole)")
            return
        }
    }
}
