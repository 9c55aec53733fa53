internal import Postcopy

/// What was found in the channels of one migration. Offsets count from the first byte of a channel,
/// or of a RAM block; a row or a figure that does not apply is left out.
struct InspectionDocument: JSONReport, Equatable {
    /// Grows when a key changes its meaning or goes.
    static let currentSchema = 1

    /// The items that the document keeps, with what they have of blocks and devices; what a stream of
    /// ever changing items has more shows in the text only. About 20 MB of JSON.
    static let rowsMax = 100_000
    /// The problems of one channel that are told one by one.
    static let problemsMax = 20

    var schema = currentSchema
    var command = "inspect"
    /// `good`, or `wrong` when any channel has a problem.
    var status = "good"
    var main: InspectedChannel
    var returnPath: InspectedChannel?
    var preempt: InspectedChannel?
    /// The links that took the migration up after a break, in their order.
    var resumed: [InspectedLink]?
    /// What the channels brought, by block, where the guest's memory is known.
    var memory: [InspectedMemory]?
    /// How the stream ended, where it did.
    var ending: String?
}

/// The channels of a link that resumes a migration.
struct InspectedLink: Codable, Equatable {
    var main: InspectedChannel
    var returnPath: InspectedChannel?
    var preempt: InspectedChannel?
}

/// One channel, read as far as it can be.
struct InspectedChannel: Codable, Equatable {
    var file: String
    /// Those that were understood.
    var bytes: UInt64 = 0
    var items: [InspectedItem] = []
    var itemsOmitted: UInt64?
    var problems: [InspectedProblem] = []
    var problemsOmitted: UInt64?
}

/// What is wrong, and where. The last one of a channel may be what ended the reading.
struct InspectedProblem: Codable, Equatable {
    var offset: UInt64
    var text: String
    var endsReading: Bool
}

/// A thing in a channel, or several of one kind in a row.
struct InspectedItem: Codable, Equatable {
    enum Kind: String, Codable {
        case head, blockList = "block-list", pages, devices, package, discards
        case openReturnPath = "open-return-path", ping, advise, listen, run
        case switchoverStart = "switchover-start"
        case endOfStream = "end-of-stream", description, trailing
        case pong, requests, shut, end
        case extensions, refusalReason = "refusal-reason"
        case hello, heartbeats, bitmapRequest = "bitmap-request", resume
        case linkLost = "link-lost"
        case recoveryAnswer = "recovery-answer", bitmap, resumeAcknowledged = "resume-acknowledged"
    }

    var offset: UInt64
    var bytes: UInt64
    var kind: Kind
    /// Of a ping, a pong, SHUT or an answer; of ADVISE its page sizes, or-ed; of extensions their set;
    /// of a hello the number of its link.
    var value: UInt64?
    var machineType: String?
    var subsections: [String]?
    /// The section's id on the wire.
    var section: UInt32?
    /// How many sections, commands or messages are taken together.
    var count: Int?
    /// Whether the section `ram` ends here.
    var isLast: Bool?
    var blocks: [InspectedBlock]?
    var devices: [InspectedDevice]?
    /// Where the outline of devices gave up.
    var unresolvedOffset: UInt64?
    /// The values of the pings in a package.
    var pings: [UInt32]?
    /// Why the destination gave up, as it came.
    var reason: String?
    /// Names the migration: of a hello, and of extensions that offer a recovery.
    var token: String?
    /// Of a hello: `main` or `urgent`.
    var channel: String?
}

/// What an item has of one RAM block.
struct InspectedBlock: Codable, Equatable {
    var name: String
    /// The block's length, or the bytes that were discarded or requested.
    var bytes: UInt64?
    var pageSize: UInt64?
    /// Target pages with content, and of zeros.
    var normal: UInt64?
    var zero: UInt64?
    /// Stretches without a gap, in the order in which they came.
    var runs: UInt64?
    var ranges: UInt64?
    /// Target pages that a bitmap says were received.
    var received: UInt64?
    var requests: UInt64?
    /// The first byte of all that is named, and the one behind the last.
    var from: UInt64?
    var to: UInt64?
}

/// A device section, as an outline shows it.
struct InspectedDevice: Codable, Equatable {
    var offset: UInt64
    var bytes: UInt64
    var name: String
    var instance: UInt32
    var version: UInt32
    var section: UInt32
}

/// What all channels together brought of one block; target pages.
struct InspectedMemory: Codable, Equatable {
    var name: String
    var bytes: UInt64
    var pageSize: UInt64
    var normal: UInt64
    var zero: UInt64
    var discarded: UInt64
    /// Discarded and not brought again.
    var owed: UInt64
    /// Never brought and never discarded.
    var absent: UInt64
}
