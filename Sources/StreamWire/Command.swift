public import PageModel

/// A command of the main channel.
///
/// Layout: 0x08; number: u16; payload length: u16; payload.
/// Source: `loadvm_process_command`, `qemu_savevm_command_send` (`migration/savevm.c`).
public enum Command: Equatable, Sendable {
    /// The destination may write to the return path from here on. Payload: none.
    case openReturnPath
    /// Asks for a pong with the same value. Payload: value: u32.
    case ping(UInt32)
    /// Payload: page sizes of all blocks, or-ed: u64; target page size: u64.
    case postcopyAdvise(pageSizeSummary: UInt64, targetPageBytes: UInt64)
    /// Payload: none.
    case postcopyListen
    /// Payload: none.
    case postcopyRun
    /// Payload: 0: u8; block name (length: u8; bytes); 0: u8; then start: u64, length: u64 each.
    case discard(DiscardRanges)
    /// Payload: length: u32. That many bytes follow behind the command.
    case packaged(lengthBytes: UInt32)
    /// The source has stopped its guest; since QEMU 10.0, and nothing to do. Payload: none.
    case switchoverStart
    /// Asks which pages of a block were received: a source that resumes. Payload: block name
    /// (length: u8; bytes).
    case receivedBitmap(block: BlockIndex)
    /// The source goes on where the link broke. Payload: none.
    case postcopyResume
    /// Our own: which migration this link resumes. Payload: see `ChannelHello`.
    case hello(ChannelHello)
    /// Our own: the source lives, and has nothing else to say. Payload: none.
    case heartbeat
}

/// Pages of one block that the destination must drop, because newer ones will come.
///
/// The decoder makes them only of whole host pages inside the block, none of them empty.
public struct DiscardRanges: Equatable, Sendable {
    public let block: BlockIndex
    public let ranges: [DiscardRange]

    public init(block: BlockIndex, ranges: [DiscardRange]) {
        self.block = block
        self.ranges = ranges
    }
}

/// A run of bytes in a block.
public struct DiscardRange: Equatable, Sendable {
    public let start: RAMOffset
    public let lengthBytes: UInt64

    public init(start: RAMOffset, lengthBytes: UInt64) {
        self.start = start
        self.lengthBytes = lengthBytes
    }
}

/// The values that QEMU sends with `PING`.
public enum PingValue: UInt32, Sendable, CaseIterable {
    /// Behind OPEN_RETURN_PATH: shows that the return path works. A QEMU source from 8.0 on opens
    /// its preempt channel only after it has seen some pong.
    case returnPathOpened = 1
    /// In front of the package: everything before it has been read.
    case beforePackage = 2
    /// In the package behind the devices: their state is loaded.
    case devicesLoaded = 3
    /// Behind the package: the stream is being read while the devices load.
    case afterPackage = 4
    /// In the package in front of RUN, since QEMU 10.2: its pong commits the destination to run,
    /// and until it comes a failure lets the source run its guest again.
    case committedToRun = 0x42
}

/// The commands by number.
///
/// Source: `enum qemu_vm_cmd` (`migration/savevm.c`); those from 0x5043 on are our own, far from any
/// that QEMU may add.
enum CommandNumber: UInt16 {
    case openReturnPath = 1
    case ping = 2
    case postcopyAdvise = 3
    case postcopyListen = 4
    case postcopyRun = 5
    case discard = 6
    case packaged = 7
    case enableColo = 8
    case postcopyResume = 9
    case receivedBitmap = 10
    case switchoverStart = 11
    case hello = 0x5043
    case heartbeat = 0x5044

    var name: String {
        switch self {
        case .openReturnPath: "OPEN_RETURN_PATH"
        case .ping: "PING"
        case .postcopyAdvise: "POSTCOPY_ADVISE"
        case .postcopyListen: "POSTCOPY_LISTEN"
        case .postcopyRun: "POSTCOPY_RUN"
        case .discard: "POSTCOPY_RAM_DISCARD"
        case .packaged: "PACKAGED"
        case .enableColo: "ENABLE_COLO"
        case .postcopyResume: "POSTCOPY_RESUME"
        case .receivedBitmap: "RECV_BITMAP"
        case .switchoverStart: "SWITCHOVER_START"
        case .hello: "hello"
        case .heartbeat: "heartbeat"
        }
    }

    /// Whether a payload may have this length. A discard is at least a name of one byte and one
    /// range.
    func allows(lengthBytes: UInt16) -> Bool {
        switch self {
        case .openReturnPath, .postcopyListen, .postcopyRun, .switchoverStart, .enableColo,
            .postcopyResume, .heartbeat:
            lengthBytes == 0
        case .ping, .packaged: lengthBytes == 4
        case .postcopyAdvise: lengthBytes == 16
        case .discard: lengthBytes >= 20
        case .receivedBitmap: (2...256).contains(lengthBytes)
        case .hello: lengthBytes == ChannelHello.payloadBytes
        }
    }
}
