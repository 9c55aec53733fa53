import StreamWire
import TestSupport
import Testing

/// The items of a whole stream, damaged one at a time. What follows is decoded with the decoder as it
/// stood there, so that runs are short although the stream is whole.
struct DamagedItems<Decoder: ChannelDecoder>: Sendable {
    /// How runs ended that broke no law.
    struct Tally {
        var refused = 0
        var waiting = 0
        var total: Int { refused + waiting }
    }

    private let law: DecodingLaw
    private let steps: [Step<Decoder>]
    /// Each item with what follows it, so that a shifted boundary meets plausible bytes.
    private let windows: [[UInt8]]
    /// The items of each kind: what a stream has once is damaged as often as its pages.
    private let kinds: [[Int]]

    /// Longer than a page with its header; what is longer is bytes that mean nothing to a decoder.
    private static var itemBytesMax: Int { 5_000 }

    init(of stream: [UInt8], _ start: Decoder, law: DecodingLaw) throws {
        let steps = try StreamWireTests.steps(stream, start)
        self.law = law
        self.steps = steps
        windows = steps.map { step in
            let count = min(step.range.count, Self.itemBytesMax) + 48
            return Array(stream[step.range.lowerBound...].prefix(count))
        }
        let byKind = Dictionary(grouping: steps.indices) { Self.kind(of: steps[$0].item) }
        kinds = byKind.sorted { $0.key < $1.key }.map(\.value)
    }

    func run(_ count: Int, seed: UInt64) -> Tally {
        var random = SeededRandom(seed: seed)
        var tally = Tally()
        for run in 0..<count {
            let kind = kinds[random.below(kinds.count)]
            let index = kind[random.below(kind.count)]
            var bytes = windows[index]
            let donor = windows[random.below(windows.count)]
            for _ in 0...random.below(2) { strike(&bytes, joining: donor, with: &random) }
            switch law.judge(bytes, steps[index].before) {
            case .wait: tally.waiting += 1
            case .refused: tally.refused += 1
            case .broken(let fault):
                Issue.record("seed \(seed), run \(run), item \(index): \(fault)")
                return tally
            }
        }
        return tally
    }

    /// The item's case, and the command's or message's.
    private static func kind(of item: Decoder.Item) -> String {
        String(describing: item).split(separator: "(").prefix(2).joined()
    }
}

/// Harms the fields, which stand in front; a page's bytes mean nothing.
func strike(_ bytes: inout [UInt8], joining donor: [UInt8], with random: inout SeededRandom) {
    let near = random.below(8) == 0 ? bytes.count : min(bytes.count, 64)
    Damage.strike(&bytes, at: 0..<near, joining: donor, with: &random)
}
