import Foundation
import TestSupport

/// What a seed makes of a captured migration, and how it is played to a receiver.
struct DamagedFeed: Sendable, CustomStringConvertible {
    /// What the player does once all is written.
    enum Ending: String, Sendable {
        /// Leaves when the receiver does.
        case staysAndWaits
        /// Says that nothing more comes, and waits.
        case closesSending
        /// Leaves at once, whatever comes back.
        case leaves
    }

    let seed: Int
    let vector: String
    let main: [UInt8]
    /// What goes on a second connection.
    let preempt: [UInt8]?
    /// Whether the second connection is used before its time, which is when the receiver has loaded the
    /// devices.
    let isPreemptEarly: Bool
    let ending: Ending
    /// Pieces with a pause between them, rather than all at once.
    let isSlow: Bool
    let isParked: Bool
    let touchThreads: Int

    var description: String {
        "seed \(seed): \(vector), \(main.count) bytes, "
            + (preempt.map { "preempt channel of \($0.count) bytes, " } ?? "")
            + "\(ending.rawValue)\(isSlow ? ", slow" : "")\(isParked ? ", parked" : "")"
            + (touchThreads > 0 ? ", touched" : "")
    }

    var arguments: [String] {
        touchThreads > 0 ? ["--touch-threads", "\(touchThreads)"] : []
    }
}

/// The captured migrations of postcopy, and where damage to them is interesting.
struct FeedSource: Sendable {
    private struct Vector: Sendable {
        let stream: CapturedStream
        let boundaries: [Int]
        /// Of what is neither a page nor a part of a page's section: few, and each another thing.
        let rare: [Int]
        let preempt: [UInt8]?
    }

    private let vectors: [Vector]

    init() throws {
        vectors = try Vectors.whole.map { name in
            let stream = try CapturedStream(name)
            let boundaries = try stream.boundaries()
            let preempt = "\(name)/preempt.bin"
            return Vector(
                stream: stream, boundaries: boundaries,
                rare: zip(boundaries, boundaries.dropFirst()).filter { !(9...40 ~= $1 - $0) }
                    .map(\.0),
                preempt: Vectors.exists(preempt) ? try Vectors.bytes(preempt) : nil)
        }
    }

    /// The bytes of memory of a vector's guest.
    func guestBytes(of vector: String) -> Int {
        vectors.first { $0.stream.name == vector }?.stream.guestBytes ?? 0
    }

    /// A vector as it was captured.
    func whole(_ name: String, isParked: Bool) throws -> DamagedFeed {
        let preempt = "\(name)/preempt.bin"
        return DamagedFeed(
            seed: 0, vector: name, main: try Vectors.bytes("\(name)/main.bin"),
            preempt: Vectors.exists(preempt) ? try Vectors.bytes(preempt) : nil,
            isPreemptEarly: false, ending: .staysAndWaits, isSlow: false, isParked: isParked,
            touchThreads: 0)
    }

    func damaged(seed: Int) -> DamagedFeed {
        var random = SeededRandom(seed: UInt64(seed))
        // A precopy is refused when its blocks are listed: one in sixteen is enough.
        let postcopies = vectors.filter { $0.stream.hasPostcopy }
        let vector = (random.below(16) == 0 ? vectors : postcopies).pick(with: &random)
        let donor = vectors.pick(with: &random).stream.bytes
        var main = vector.stream.bytes
        for _ in 0...random.below(2) {
            let bounds = random.below(2) == 0 ? vector.rare : vector.boundaries
            let place = bounds.pick(with: &random)
            Damage.strike(&main, at: place..<place + 48, joining: donor, with: &random)
        }
        var preempt = vector.preempt
        if var bytes = preempt, random.below(2) == 0 {
            for _ in 0...random.below(2) {
                let place = random.below(5) * 4_104
                Damage.strike(&bytes, at: place..<place + 24, joining: donor, with: &random)
            }
            preempt = bytes
        }
        if random.below(8) == 0 { preempt = nil }
        let endings: [DamagedFeed.Ending] = [
            .closesSending, .closesSending, .leaves, .staysAndWaits,
        ]
        return DamagedFeed(
            seed: seed, vector: vector.stream.name, main: main, preempt: preempt,
            isPreemptEarly: random.below(4) == 0, ending: endings.pick(with: &random),
            isSlow: random.below(16) == 0, isParked: random.below(4) == 0,
            touchThreads: random.below(4) == 0 ? 1 : 0)
    }
}

extension Array {
    fileprivate func pick(with random: inout SeededRandom) -> Element {
        self[random.below(count)]
    }
}
