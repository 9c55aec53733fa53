import MigrationCore
import PageModel
import TestSupport

/// The most that a seed may make of each thing: a failing seed is run again with less.
public struct Limits: Hashable, Sendable {
    public var blocks: Int
    public var pages: Int
    public var vcpus: Int
    public var faults: Int

    public static let full = Limits(blocks: 3, pages: 48, vcpus: 4, faults: 4)

    public init(blocks: Int, pages: Int, vcpus: Int, faults: Int) {
        self.blocks = blocks
        self.pages = pages
        self.vcpus = vcpus
        self.faults = faults
    }
}

/// What a seed makes: two sides, a guest, the troubles of the link between them.
struct Scenario {
    let blocks: [BlockGeometry]
    let vcpus: Int
    let hasUrgent: Bool
    let precopySteps: Int
    let devicePages: Int
    let refusesDevices: Bool
    /// What each direction of a connection holds, unread bytes and those on their way.
    let socketBytes: Int
    let delay: ClosedRange<Int>
    /// How long the background sender rests between two runs, at most.
    let restMax: Int
    let queueCapacity: Int
    let faults: [Fault]
    let token: (high: UInt64, low: UInt64)
    let addressCount: Int

    init(seed: UInt64, limits: Limits) {
        var random = SeededRandom(seed: seed ^ 0x5350_4f53_5443_4f50)
        blocks = Self.blocks(limits, &random)
        vcpus = min(limits.vcpus, 1 + random.below(4))
        hasUrgent = random.below(3) > 0
        precopySteps = random.below(3) == 0 ? 0 : random.below(30)
        devicePages = random.below(4)
        refusesDevices = random.below(30) == 0
        socketBytes = [3_000, 9_000, 30_000, 200_000][random.below(4)]
        let fastest = [5, 50, 500, 5_000][random.below(4)] * Time.microsecond
        delay = fastest...(fastest * (1 + random.below(4)))
        restMax = [0, 200, 2_000, 10_000][random.below(4)] * Time.microsecond
        // The last is what the product takes.
        queueCapacity = [1, 2, 3, 4, PageRequestQueue.capacityDefault][random.below(5)]
        faults = Self.faults(limits, &random)
        token = (random.next(), random.next())
        addressCount = 1 + random.below(2)
    }

    // Drawn in full whatever the limits are: with less of one thing all others stay as they were.
    private static func blocks(
        _ limits: Limits, _ random: inout SeededRandom
    ) -> [BlockGeometry] {
        let count = 1 + random.below(Limits.full.blocks)
        let all = (0..<count).map { index in
            let targetPages = [1, 1, 2, 8][random.below(4)]
            let size = PageSize(bytes: UInt64(targetPages) << 12) ?? .target
            let drawn = 1 + random.below(Limits.full.pages / targetPages)
            let pages = min(drawn, max(1, limits.pages / targetPages))
            do throws(GeometryError) {
                return try BlockGeometry(
                    name: "ram\(index)", lengthBytes: UInt64(pages) * size.bytes, hostPage: size)
            } catch { preconditionFailure("\(error)") }
        }
        return Array(all.prefix(limits.blocks))
    }

    private static func faults(_ limits: Limits, _ random: inout SeededRandom) -> [Fault] {
        let count = 1 + random.below(Limits.full.faults)
        let all = (0..<count).map { index in
            let kind = Fault.Kind.drawn(&random)
            var moment = Moment.allCases[random.below(Moment.allCases.count)]
            if index == 0 {
                let first: [Moment] = [.connected, .packageBegun, .packageSent, .guestStarted]
                moment = first[[0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3][random.below(12)]]
            }
            let scale = [20, 1_000, 8_000, 60_000][random.below(4)] * Time.microsecond
            return Fault(kind: kind, moment: moment, delay: random.below(scale))
        }
        return Array(all.prefix(max(1, limits.faults)))
    }
}

/// Virtual time is counted in nanoseconds.
enum Time {
    static let microsecond = 1_000
    static let millisecond = 1_000_000
    static let second = 1_000_000_000
    /// How long a peer may be silent once the guest moves.
    static let linkLimit = 250 * millisecond
    static let beat = linkLimit / 4
    /// The same while a link is taken up.
    static let handshakeLimit = 2 * second
    /// The same before the guest moves.
    static let silenceLimit = 10 * second
    /// From here on nothing goes wrong any more.
    static let healed = 6 * second
    /// Whoever waits for a page is answered by then.
    static let answered = healed + 6 * second
    static let ended = healed + 12 * second
}

/// Where a migration is when a fault comes.
enum Moment: CaseIterable {
    case connected, packageBegun, packageSent, guestStarted
    case knocked, welcomed, bitmapAsked, bitmapsCame, resumeSent, resumed
    case endSent
}

/// One thing that goes wrong.
struct Fault {
    enum Kind: CaseIterable {
        /// All channels break, and both sides hear of it.
        case cut
        /// One channel of the link breaks.
        case cutOne
        /// All channels break, and a side or both hear nothing.
        case halfOpen
        /// One direction of one channel brings nothing for a while.
        case stall
        /// All channels break, and nobody can connect for a while.
        case cutAndRefuse
        /// All channels break, and what the source says first on its next connection comes too late.
        case cutThenLate
        /// A side stands still.
        case freeze
        /// Somebody knocks who is no part of this migration.
        case stranger
        /// The source says what it may not say any more.
        case rogueDiscard

        static func drawn(_ random: inout SeededRandom) -> Kind {
            let weights: [(Kind, Int)] = [
                (.cut, 24), (.cutThenLate, 6), (.cutOne, 14), (.halfOpen, 12), (.stall, 10),
                (.cutAndRefuse, 10),
                (.freeze, 8), (.stranger, 12), (.rogueDiscard, 4),
            ]
            var draw = random.below(100)
            for (kind, weight) in weights {
                if draw < weight { return kind }
                draw -= weight
            }
            return .cut
        }
    }

    let kind: Kind
    let moment: Moment
    let delay: Int
}
