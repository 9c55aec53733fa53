extension WireError: CustomStringConvertible {
    /// One line: what was refused, what was expected, and the byte where it stands.
    public var description: String { "\(reason) (at byte \(position) of the channel)" }

    /// What was refused and what was expected, without the place.
    ///
    /// Routes each kind to the text of its group; a new kind does not compile until it has one.
    public var reason: String {
        switch kind {
        case .badMagic, .badVersion, .missingConfiguration, .nameTooLong, .nameNotText,
            .machineMismatch, .unknownConfigurationSubsection, .repeatedConfigurationSubsection,
            .badSubsectionVersion, .badTargetPageBits, .unsupportedCapability,
            .repeatedCapability, .ignoreSharedDiffers:
            headText
        case .unknownSectionType, .deviceBeforeMemory, .unknownSection, .badSectionID,
            .badSectionInstance, .unsupportedSectionVersion, .unboundSectionID, .badFooter,
            .footerIDMismatch:
            sectionText
        case .unknownBlock, .blockLengthMismatch, .blockTooLong, .blockNotWholePages,
            .blockAddressMismatch, .blockPageSizeMismatch, .repeatedBlock,
            .blockListTotalMismatch, .blockPageSizeUnknown, .tooManyBlocks, .introductionTooLong:
            blockListText
        case .badPageFlags, .continueWithoutBlock, .pageOfIgnoredBlock, .offsetOutsideBlock,
            .nonZeroFill:
            recordText
        case .unknownCommand, .unsupportedCommand, .badCommandLength, .discardBadVersion,
            .discardMissingTerminator, .discardOfIgnoredBlock, .discardEmpty,
            .discardMisaligned, .discardOutsideBlock:
            commandText
        case .packageTooShort, .packageTooLong, .packageWithoutListen, .packageWithoutPing,
            .packageWithoutRun, .badDeviceName, .deviceTailTooLong:
            packageText
        case .unknownMessage, .unsupportedMessage, .badMessageLength, .reasonNotText,
            .requestBeforeBlockNamed, .requestOfIgnoredBlock, .requestEmpty, .requestMisaligned,
            .requestOutsideBlock:
            returnPathText
        case .notHello, .unknownChannel, .badRecoveryAnswer, .badResumeAcknowledgement,
            .bitmapOfIgnoredBlock, .bitmapLengthMismatch, .bitmapBeyondBlock,
            .bitmapMissingEndMark:
            recoveryText
        case .truncated(let reading):
            "the peer closed the channel in the middle of \(reading)"
        case .misplaced(let misplacement):
            misplacement.text
        }
    }

    private var headText: String {
        switch kind {
        case .badMagic(StreamFormat.multifdMagic):
            "the source has multifd on, whose channels cannot be taken here: switch it off there "
                + "(migrate_set_capability multifd off)"
        case .badMagic(let found):
            "not a migration stream: it begins with \(hex(found)), not 0x5145564d"
        case .badVersion(let found):
            "migration stream version \(found), expected 3"
        case .missingConfiguration(let found):
            "expected the configuration section (0x7), found \(hex(found)): "
                + "the source must send its configuration"
        case .nameTooLong(let length, let maximum):
            "a name of \(length) bytes, expected at most \(maximum)"
        case .nameNotText:
            "a name that is not UTF-8 text"
        case .machineMismatch(let found, let expected):
            "the source runs machine type \(quoted(found)), expected \(quoted(expected)): "
                + "use the same one on both sides"
        case .unknownConfigurationSubsection(let name):
            "unknown configuration subsection \(quoted(name))"
        case .repeatedConfigurationSubsection(let name):
            "configuration subsection \(quoted(name)) for the second time"
        case .badSubsectionVersion(let found):
            "configuration subsection version \(found), expected 1"
        case .badTargetPageBits(let found):
            "guest pages of 2^\(found) bytes, expected 2^12"
        case .unsupportedCapability(let name):
            "the source requires capability \(quoted(name)), expected x-ignore-shared or none: "
                + "turn it off there"
        case .repeatedCapability(let name):
            "capability \(quoted(name)) for the second time"
        case .ignoreSharedDiffers(let ours):
            "the source has x-ignore-shared \(ours ? "off" : "on"), this side has it "
                + "\(ours ? "on" : "off"): both must map the same shared memory and have it on, "
                + "or have it off"
        default: ""
        }
    }

    private var sectionText: String {
        switch kind {
        case .unknownSectionType(let found):
            "unknown section type \(hex(found)), expected a section, a command or the end"
        case .deviceBeforeMemory(let name):
            "device \(quoted(name)) sends its state before memory is complete, expected it behind "
                + "section 'ram' or in the package: migrate without it (QEMU sends virtio-mem so)"
        case .unknownSection(let name):
            "unknown section \(quoted(name)), expected 'ram': \(remedy(forSection: name))"
        case .badSectionID(let found):
            "section id \(found), expected any other number"
        case .badSectionInstance(let found):
            "instance \(found) of section 'ram', expected 0"
        case .unsupportedSectionVersion(let found):
            "version \(found) of section 'ram', expected 4"
        case .unboundSectionID(let found):
            "section id \(found), which no section start has named"
        case .badFooter(let found):
            "expected a section footer (0x7e), found \(hex(found))"
        case .footerIDMismatch(let found, let expected):
            "the footer of section \(found), expected that of \(expected)"
        default: ""
        }
    }

    private var blockListText: String {
        switch kind {
        case .unknownBlock(let name):
            "unknown RAM block \(quoted(name)): "
                + "both sides must configure the same memory under the same names"
        case .blockLengthMismatch(let block, let ours, let theirs):
            "RAM block \(quoted(block)) has \(theirs) bytes at the source, expected \(ours): "
                + "give it the same length on both sides, or make it resizable here"
        case .blockTooLong(let block, let maximum, let theirs):
            "RAM block \(quoted(block)) has \(theirs) bytes at the source, and room for "
                + "\(maximum) here: give it the same maximum on both sides"
        case .blockNotWholePages(let block, let length, let page):
            "RAM block \(quoted(block)) has \(length) bytes at the source, expected whole pages of "
                + "\(page) bytes, at least one"
        case .blockAddressMismatch(let block, let ours, let theirs):
            "RAM block \(quoted(block)) is at guest address \(hex(theirs)) at the source, "
                + "expected \(hex(ours)): give it the same place on both sides"
        case .blockPageSizeMismatch(let block, let ours, let theirs):
            "RAM block \(quoted(block)) has pages of \(theirs) bytes at the source, "
                + "expected \(ours): give it the same pages on both sides"
        case .repeatedBlock(let name):
            "RAM block \(quoted(name)) is listed for the second time"
        case .blockListTotalMismatch(let total):
            "a list of RAM blocks said to total \(total) bytes, which its blocks do not"
        case .blockPageSizeUnknown(let block, let page):
            "RAM block \(quoted(block)) has pages of \(page) bytes at the source, "
                + "expected a power of two from 4096 to 2^30"
        case .tooManyBlocks(let maximum):
            "a list of more than \(maximum) RAM blocks"
        case .introductionTooLong(let maximum):
            "no list of RAM blocks in the first \(maximum) bytes"
        default: ""
        }
    }

    private var recordText: String {
        switch kind {
        case .badPageFlags(let flags):
            "RAM record flags \(hex(flags))\(capability(of: flags)), "
                + "expected a page, a zero page or the end"
        case .continueWithoutBlock:
            "a page of the same block as before, but no block has been named"
        case .pageOfIgnoredBlock(let block):
            "a page of RAM block \(quoted(block)), which both sides share and nobody sends"
        case .offsetOutsideBlock(let block, let offset, let length):
            "a page at offset \(hex(offset)) of RAM block \(quoted(block)), "
                + "which has \(length) bytes"
        case .nonZeroFill(let found):
            "a zero page filled with \(hex(found)), expected 0"
        default: ""
        }
    }
}

extension WireError {
    private var commandText: String {
        switch kind {
        case .unknownCommand(let number):
            "unknown command \(number)"
        case .unsupportedCommand(let number):
            "unsupported command \(number) (\(CommandNumber(rawValue: number)?.name ?? "?"))"
                + (number == 3 ? " without page sizes: turn on postcopy-ram at the source" : "")
        case .badCommandLength(let number, let length):
            "command \(number) (\(CommandNumber(rawValue: number)?.name ?? "?")) "
                + "with a payload of \(length) bytes"
        case .discardBadVersion(let found):
            "discard version \(found), expected 0"
        case .discardMissingTerminator(let found):
            "expected 0 after the block name of a discard, found \(hex(found))"
        case .discardOfIgnoredBlock(let block):
            "a discard in RAM block \(quoted(block)), which both sides share and nobody sends"
        case .discardEmpty(let block):
            "a discard of nothing in RAM block \(quoted(block))"
        case .discardMisaligned(let block, let start, let length):
            "a discard of \(length) bytes at \(hex(start)) of RAM block \(quoted(block)), "
                + "expected whole pages of the block"
        case .discardOutsideBlock(let block, let start, let length):
            "a discard of \(length) bytes at \(hex(start)), outside RAM block \(quoted(block))"
        default: ""
        }
    }

    private var packageText: String {
        switch kind {
        case .packageTooShort(let length):
            "a package of \(length) bytes, too short to listen and run"
        case .packageTooLong(let length, let maximum):
            "a package of \(length) bytes, expected at most \(maximum)"
        case .packageWithoutListen: "the package does not begin with POSTCOPY_LISTEN"
        case .packageWithoutPing: "the package does not end with PING 3 [PING 0x42] and RUN"
        case .packageWithoutRun: "the package does not end with POSTCOPY_RUN"
        case .badDeviceName(let name): "a device section named \(quoted(name))"
        case .deviceTailTooLong(let maximum):
            "devices behind section 'ram' that do not end within \(maximum) bytes"
        default: ""
        }
    }

    private var returnPathText: String {
        switch kind {
        case .unknownMessage(let number): "unknown return path message \(number)"
        case .unsupportedMessage(let number): "unsupported return path message \(number)"
        case .badMessageLength(let number, let length):
            "return path message \(number) with a payload of \(length) bytes"
        case .reasonNotText:
            "a reason for a refusal that is not UTF-8 text"
        case .requestBeforeBlockNamed:
            "a page request in the same block as before, but no block has been named"
        case .requestOfIgnoredBlock(let block):
            "a request for RAM block \(quoted(block)), which both sides share and nobody sends"
        case .requestEmpty(let block):
            "a request for no bytes of RAM block \(quoted(block))"
        case .requestMisaligned(let block, let start, let length):
            "a request for \(length) bytes at \(hex(start)) of RAM block \(quoted(block)), "
                + "expected whole pages of the block"
        case .requestOutsideBlock(let block, let start, let length):
            "a request for \(length) bytes at \(hex(start)), outside RAM block \(quoted(block))"
        default: ""
        }
    }
}

extension WireError {
    private var recoveryText: String {
        switch kind {
        case .notHello(let found):
            "found \(hex(found)) where a hello was due: the channel is of another program, or of a "
                + "peer that cannot recover"
        case .unknownChannel(let found):
            "a hello for channel \(found), expected 0 (main) or 1 (urgent)"
        case .badRecoveryAnswer(let found):
            "answer \(found) to a recovery, expected 0 to \(RecoveryAnswer.allCases.count - 1)"
        case .badResumeAcknowledgement(let found):
            "the destination answered \(found) to POSTCOPY_RESUME, expected 1"
        case .bitmapOfIgnoredBlock(let block):
            "a bitmap of received pages for RAM block \(quoted(block)), which both sides share and "
                + "nobody sends"
        case .bitmapLengthMismatch(let block, let ours, let theirs):
            "a bitmap of \(theirs) bytes for RAM block \(quoted(block)), expected \(ours)"
        case .bitmapBeyondBlock(let block):
            "a bitmap with pages behind the last one of RAM block \(quoted(block))"
        case .bitmapMissingEndMark(let found):
            "expected the end mark 0x123456789abcdef behind a bitmap, found \(hex(found))"
        default: ""
        }
    }
}

extension WireError.Reading {
    public var description: String {
        switch self {
        case .head: "the stream's head"
        case .sectionOrCommand: "the stream, where a section, a command or the end was due"
        case .blockList: "the list of RAM blocks"
        case .ramRecord: "a RAM section, where a record was due"
        case .package: "the package"
        case .deviceSection: "a device section"
        case .deviceTail: "the devices behind section 'ram'"
        case .returnPathMessage: "the return path, where a message or SHUT was due"
        case .receivedBitmap: "a bitmap of received pages"
        }
    }
}

extension WireError.Misplacement {
    fileprivate var text: String {
        switch self {
        case .beforeBlockList:
            "something else than OPEN_RETURN_PATH, PING or POSTCOPY_ADVISE before the list of RAM "
                + "blocks"
        case .ramRecordBeforeBlockList: "a RAM record before the list of RAM blocks"
        case .blockListOnPreemptChannel: "a list of RAM blocks on the preempt channel"
        case .secondSectionStart: "a second start of section 'ram'"
        case .sectionAfterSectionEnd: "more of section 'ram' after its end"
        case .devicesAfterPackage: "a device outside the package that brought the others"
        case .messageAfterShut: "a return path message after SHUT"
        case .extensionsUnasked: "a list of extensions that nobody asked for"
        case .secondExtensions: "a second list of extensions"
        case .reasonNotOffered:
            "a reason for a refusal from a destination that did not offer to give any"
        case .secondReason: "a second reason for a refusal"
        case .recoveryOnFirstLink: "a part of a recovery on a link that resumes nothing"
        case .blockListOnResumedLink: "a list of RAM blocks on a link that resumes a migration"
        case .helloNotAgreed: "a hello, which nobody agreed on"
        case .heartbeatNotAgreed: "a heartbeat, which nobody agreed on"
        case .recoveryAnswerNotOffered:
            "an answer about a recovery from a destination that did not offer to give any"
        }
    }
}

/// What to do at a QEMU source that sends this section beside its memory.
///
/// Source: `blk_mig_init`, `dirty_bitmap_mig_init` (`migration/block.c`,
/// `block-dirty-bitmap.c`).
private func remedy(forSection name: String) -> String {
    switch name {
    case "block":
        "migrate without copying disks (no -b, no -i, capability block off at the source)"
    case "dirty-bitmap": "turn off dirty-bitmaps at the source"
    default: "remove the device that sends it before migrating"
    }
}

/// What a source sends with these flags, and the option by which it does not.
private func capability(of flags: UInt64) -> String {
    switch flags & ~RAMFlags.continueBlock {
    case 0x40: ", an XBZRLE page (turn off xbzrle at the source)"
    case 0x80: ", a word for RDMA (which is not supported)"
    case 0x100: ", a compressed page (turn off compress at the source)"
    case 0x200: ", a barrier of multifd channels (turn off multifd at the source)"
    default: ""
    }
}

private func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }

private func quoted(_ name: String) -> String { PeerText.quoted(name) }
