import PageModel
import StreamWire

/// What holds for any bytes that a decoder is given: each step goes forward by a whole item inside
/// the guest's bounds, asks for a bounded number of bytes, or throws in place.
struct DecodingLaw: Sendable {
    let blocks: [BlockGeometry]

    enum Verdict {
        /// All was decoded, or more bytes are asked for.
        case wait
        case refused
        /// The law that was broken.
        case broken(String)
    }

    /// Decodes `bytes` to their end with `start`, which is not changed.
    func judge<Decoder: ChannelDecoder>(_ bytes: [UInt8], _ start: Decoder) -> Verdict {
        var decoder = start
        var cursor = 0
        while true {
            let before = decoder.position
            let available = bytes.count - cursor
            switch decoder.step(bytes, from: cursor) {
            case .decoded(.needMoreBytes(let wanted)):
                guard wanted > available, wanted <= 70_000 else {
                    return .broken("wants \(wanted)")
                }
                return decoder.position == before ? .wait : .broken("moved while it waits")
            case .refused(let error):
                guard error.position >= before, error.position - before <= UInt64(available) else {
                    return .broken("position \(error.position)")
                }
                return decoder.position == before ? .refused : .broken("moved while it throws")
            case .decoded(.item(let item, let consumed)):
                guard consumed > 0, consumed <= available,
                    decoder.position == before + UInt64(consumed)
                else { return .broken("consumed \(consumed)") }
                if let fault = fault(of: item, at: cursor..<cursor + consumed) {
                    return .broken(fault)
                }
                cursor += consumed
            }
        }
    }

    /// What is out of bounds in an item that stood at `place`, or `nil`.
    private func fault(of item: some Equatable & Sendable, at place: Range<Int>) -> String? {
        switch item {
        case let item as StreamItem: faultOfItem(item, at: place)
        case .page(let block, let offset, let payload) as RAMRecord:
            faultOfPage(block, offset, payload, at: place)
        case .zeroPage(let block, let offset) as RAMRecord:
            faultOfPage(block, offset, nil, at: place)
        case .requestPages(let block, let start, let length) as ReturnPathMessage:
            faultOfRange(block, start, length)
        case .bitmapBytes(let block, let first, let range) as ReturnPathMessage:
            faultOfBitmap(block, first, range, at: place)
        default: nil
        }
    }

    private func faultOfItem(_ item: StreamItem, at place: Range<Int>) -> String? {
        switch item {
        case .page(let block, let offset, let payload):
            return faultOfPage(block, offset, payload, at: place)
        case .zeroPage(let block, let offset): return faultOfPage(block, offset, nil, at: place)
        case .packageBytes(let range, _), .deviceTail(let range), .trailing(let range):
            return range == place ? nil : "bytes at \(range)"
        case .blockListed(let block):
            return blocks.indices.contains(block.rawValue) ? nil : "block \(block)"
        case .blockList(let count):
            return (1...blocks.count).contains(count) ? nil : "\(count) blocks"
        case .command(.discard(let discard)):
            if discard.ranges.isEmpty { return "an empty discard" }
            for range in discard.ranges {
                let fault = faultOfRange(discard.block, range.start, range.lengthBytes)
                if let fault { return fault }
            }
            return nil
        default: return nil
        }
    }

    private func faultOfBitmap(
        _ block: BlockIndex, _ first: Int, _ range: Range<Int>, at place: Range<Int>
    ) -> String? {
        guard blocks.indices.contains(block.rawValue) else { return "block \(block)" }
        let wordCount = (blocks[block.rawValue].targetPageCount + 63) / 64
        guard range == place, range.count % 8 == 0, first >= 0,
            first + range.count / 8 <= wordCount
        else { return "words at \(first), bytes \(range)" }
        return nil
    }

    private func faultOfPage(
        _ block: BlockIndex, _ offset: RAMOffset, _ payload: Range<Int>?, at place: Range<Int>
    ) -> String? {
        guard blocks.indices.contains(block.rawValue) else { return "block \(block)" }
        let geometry = blocks[block.rawValue]
        guard offset.rawValue % 4096 == 0, geometry.contains(start: offset, lengthBytes: 4096)
        else { return "offset \(offset)" }
        guard let payload else { return nil }
        guard payload.count == 4096, payload.lowerBound > place.lowerBound,
            payload.upperBound == place.upperBound
        else { return "payload \(payload)" }
        return nil
    }

    private func faultOfRange(
        _ block: BlockIndex, _ start: RAMOffset, _ length: UInt64
    ) -> String? {
        guard blocks.indices.contains(block.rawValue) else { return "block \(block)" }
        let geometry = blocks[block.rawValue]
        guard length > 0, geometry.contains(start: start, lengthBytes: length),
            geometry.hostPage.divides(start.rawValue), geometry.hostPage.divides(length)
        else { return "\(length) bytes at \(start)" }
        return nil
    }
}
