public import PageModel

extension StreamEncoder {
    /// The ranges that QEMU puts into one discard: a receiver of its size suffices for ours.
    ///
    /// Source: `MAX_DISCARDS_PER_COMMAND` (`migration/postcopy-ram.c`).
    public static let discardRangesMax = 12

    /// Appends one command. Behind `packaged` the caller sends the blob that it announces.
    ///
    /// Layout: see `Command`.
    /// Source: `qemu_savevm_command_send` (`migration/savevm.c`).
    /// - Precondition: a discard has 1 to 4079 ranges, which fit whatever the block's name.
    public static func appendCommand(
        _ command: Command, blocks: [BlockGeometry], to output: inout [UInt8]
    ) {
        switch command {
        case .openReturnPath: appendHeader(.openReturnPath, lengthBytes: 0, to: &output)
        case .ping(let value):
            appendHeader(.ping, lengthBytes: 4, to: &output)
            output.appendBigEndian(value)
        case .postcopyAdvise(let summary, let targetPage):
            appendHeader(.postcopyAdvise, lengthBytes: 16, to: &output)
            output.appendBigEndian(summary)
            output.appendBigEndian(targetPage)
        case .postcopyListen: appendHeader(.postcopyListen, lengthBytes: 0, to: &output)
        case .postcopyRun: appendHeader(.postcopyRun, lengthBytes: 0, to: &output)
        case .discard(let discard):
            let block = blocks[discard.block.rawValue]
            appendDiscard(of: block, ranges: discard.ranges[...], to: &output)
        case .packaged(let length):
            appendHeader(.packaged, lengthBytes: 4, to: &output)
            output.appendBigEndian(length)
        case .switchoverStart: appendHeader(.switchoverStart, lengthBytes: 0, to: &output)
        }
    }

    /// Appends as many commands as the ranges of one block need, 12 ranges in each.
    public static func appendDiscards(
        _ discards: DiscardRanges, blocks: [BlockGeometry], to output: inout [UInt8]
    ) {
        var rest = discards.ranges[...]
        while !rest.isEmpty {
            let block = blocks[discards.block.rawValue]
            appendDiscard(of: block, ranges: rest.prefix(discardRangesMax), to: &output)
            rest = rest.dropFirst(discardRangesMax)
        }
    }

    /// Appends the command for a package and the package itself.
    /// - Precondition: `package` is shorter than 4 GiB.
    public static func appendPackage(_ package: [UInt8], to output: inout [UInt8]) {
        let length = UInt32(package.count)
        appendCommand(.packaged(lengthBytes: length), blocks: [], to: &output)
        output.append(contentsOf: package)
    }

    private static func appendHeader(
        _ command: CommandNumber, lengthBytes: UInt16, to output: inout [UInt8]
    ) {
        output.append(SectionType.command)
        output.appendBigEndian(command.rawValue)
        output.appendBigEndian(lengthBytes)
    }

    /// Source: `qemu_savevm_send_postcopy_ram_discard` (`migration/savevm.c`).
    private static func appendDiscard(
        of block: BlockGeometry, ranges: ArraySlice<DiscardRange>, to output: inout [UInt8]
    ) {
        precondition(!ranges.isEmpty, "a discard has a range")
        let length = 3 + block.name.utf8.count + ranges.count * DiscardRange.wireBytes
        precondition(length <= Int(UInt16.max), "a command's payload is below 64 KiB")
        appendHeader(.discard, lengthBytes: UInt16(length), to: &output)
        output.append(0)
        output.appendName(block.name.utf8)
        output.append(0)
        for range in ranges {
            output.appendBigEndian(range.start.rawValue)
            output.appendBigEndian(range.lengthBytes)
        }
    }
}
