public import PageModel

extension StreamEncoder {
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
            appendDiscard(discard, of: blocks[discard.block.rawValue].name, to: &output)
        case .packaged(let length):
            appendHeader(.packaged, lengthBytes: 4, to: &output)
            output.appendBigEndian(length)
        case .switchoverStart: appendHeader(.switchoverStart, lengthBytes: 0, to: &output)
        case .receivedBitmap(let block):
            let name = blocks[block.rawValue].name.utf8
            appendHeader(.receivedBitmap, lengthBytes: 1 + UInt16(name.count), to: &output)
            output.appendName(name)
        case .postcopyResume: appendHeader(.postcopyResume, lengthBytes: 0, to: &output)
        case .hello(let hello): hello.append(to: &output)
        case .heartbeat: appendHeader(.heartbeat, lengthBytes: 0, to: &output)
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

    private static func appendDiscard(
        _ discard: DiscardRanges, of block: String, to output: inout [UInt8]
    ) {
        output += discardHead(of: block, rangeCount: discard.ranges.count)
        for range in discard.ranges {
            output.appendBigEndian(range.start.rawValue)
            output.appendBigEndian(range.lengthBytes)
        }
    }

    /// What stands before the ranges of a discard.
    ///
    /// Source: `qemu_savevm_send_postcopy_ram_discard` (`migration/savevm.c`).
    static func discardHead(of block: String, rangeCount: Int) -> [UInt8] {
        precondition(rangeCount > 0, "a discard has a range")
        let length = 3 + block.utf8.count + rangeCount * DiscardRange.wireBytes
        precondition(length <= Int(UInt16.max), "a command's payload is below 64 KiB")
        var head: [UInt8] = []
        appendHeader(.discard, lengthBytes: UInt16(length), to: &head)
        head.append(0)
        head.appendName(block.utf8)
        head.append(0)
        return head
    }
}
