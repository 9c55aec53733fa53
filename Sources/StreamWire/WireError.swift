/// A refusal of the peer's bytes: what was wrong, and at which byte of the stream.
public struct WireError: Error, Equatable, Sendable {
    public let kind: Kind
    /// Where the field at fault begins, counted from the first byte of its channel.
    public let position: UInt64

    public init(kind: Kind, position: UInt64) {
        self.kind = kind
        self.position = position
    }

    /// What was wrong, with the values that were read.
    public enum Kind: Equatable, Sendable {
        // The head.
        case badMagic(UInt32)
        case badVersion(UInt32)
        case missingConfiguration(UInt8)
        case nameTooLong(lengthBytes: UInt32, maximum: UInt32)
        case nameNotText
        case machineMismatch(String, expected: String)
        case unknownConfigurationSubsection(String)
        case repeatedConfigurationSubsection(String)
        case badSubsectionVersion(UInt32)
        case badTargetPageBits(UInt32)
        case unsupportedCapability(String)
        case repeatedCapability(String)
        case ignoreSharedDiffers(ours: Bool)

        // Sections.
        case unknownSectionType(UInt8)
        case deviceBeforeMemory(String)
        case unknownSection(String)
        case badSectionID(UInt32)
        case badSectionInstance(UInt32)
        case unsupportedSectionVersion(UInt32)
        case unboundSectionID(UInt32)
        case badFooter(UInt8)
        case footerIDMismatch(UInt32, expected: UInt32)

        // The block list.
        case unknownBlock(String)
        case blockLengthMismatch(block: String, ours: UInt64, theirs: UInt64)
        case blockTooLong(block: String, maximum: UInt64, theirs: UInt64)
        case blockNotWholePages(block: String, lengthBytes: UInt64, pageBytes: UInt64)
        case blockAddressMismatch(block: String, ours: UInt64, theirs: UInt64)
        case blockPageSizeMismatch(block: String, ours: UInt64, theirs: UInt64)
        case repeatedBlock(String)
        case blockListTotalMismatch(totalBytes: UInt64)
        case blockPageSizeUnknown(block: String, pageBytes: UInt64)
        case tooManyBlocks(maximum: Int)
        case introductionTooLong(maximum: Int)

        // RAM records.
        case badPageFlags(UInt64)
        case continueWithoutBlock
        case pageOfIgnoredBlock(block: String)
        case offsetOutsideBlock(block: String, offset: UInt64, lengthBytes: UInt64)
        case nonZeroFill(UInt8)

        // Commands.
        case unknownCommand(UInt16)
        case unsupportedCommand(UInt16)
        case badCommandLength(command: UInt16, lengthBytes: UInt16)
        case discardBadVersion(UInt8)
        case discardMissingTerminator(UInt8)
        case discardOfIgnoredBlock(block: String)
        case discardEmpty(block: String)
        case discardMisaligned(block: String, start: UInt64, lengthBytes: UInt64)
        case discardOutsideBlock(block: String, start: UInt64, lengthBytes: UInt64)

        // The package and its devices.
        case packageTooShort(UInt32)
        case packageTooLong(UInt32, maximum: UInt32)
        case packageWithoutListen
        case packageWithoutPing
        case packageWithoutRun
        case badDeviceName(String)
        case deviceTailTooLong(maximum: UInt32)

        // The return path.
        case unknownMessage(UInt16)
        case unsupportedMessage(UInt16)
        case badMessageLength(message: UInt16, lengthBytes: UInt16)
        case reasonNotText
        case requestBeforeBlockNamed
        case requestOfIgnoredBlock(block: String)
        case requestEmpty(block: String)
        case requestMisaligned(block: String, start: UInt64, lengthBytes: UInt64)
        case requestOutsideBlock(block: String, start: UInt64, lengthBytes: UInt64)

        // A recovery.
        case notHello(UInt8)
        case unknownChannel(UInt32)
        case badRecoveryAnswer(UInt32)
        case badResumeAcknowledgement(UInt32)
        case bitmapOfIgnoredBlock(block: String)
        case bitmapLengthMismatch(block: String, ours: UInt64, theirs: UInt64)
        case bitmapBeyondBlock(block: String)
        case bitmapMissingEndMark(UInt64)

        // Any channel.
        case truncated(reading: Reading)
        case misplaced(Misplacement)
    }

    /// What was being read when the bytes ended.
    public enum Reading: Equatable, Sendable, CustomStringConvertible {
        case head
        case sectionOrCommand
        case blockList
        case ramRecord
        case package
        case deviceSection
        case deviceTail
        case returnPathMessage
        case receivedBitmap
    }

    /// A thing that is well formed and stands where it may not.
    public enum Misplacement: Equatable, Sendable {
        case beforeBlockList
        case ramRecordBeforeBlockList
        case blockListOnPreemptChannel
        case secondSectionStart
        case sectionAfterSectionEnd
        case devicesAfterPackage
        case messageAfterShut
        case extensionsUnasked
        case secondExtensions
        case reasonNotOffered
        case secondReason
        case recoveryOnFirstLink
        case blockListOnResumedLink
        case helloNotAgreed
        case heartbeatNotAgreed
        case recoveryAnswerNotOffered
    }
}
