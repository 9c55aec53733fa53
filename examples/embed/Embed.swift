import Postcopy

/// A table of square numbers, 8 GiB of them, of which only the pages that somebody reads ever exist.
///
/// A provider is called by several threads at once, with whole pages to fill.
struct Squares: PageProvider {
    static func square(of root: UInt64) -> UInt64 { root &* root }

    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        for index in 0..<bytes.count / 8 {
            let square = Self.square(of: offset.rawValue / 8 + UInt64(index))
            for byte in 0..<8 {
                bytes[index * 8 + byte] = UInt8(truncatingIfNeeded: square >> UInt64(byte * 8))
            }
        }
        return .bytes
    }
}

/// A program's own memory, served lazily: `swift run embed`.
@main
enum Embed {
    static func main() throws {
        let table = try BlockGeometry(
            name: "squares", lengthBytes: 8 << 30, hostPage: HostMemory.pageSize)
        let ram = try GuestRAM(table, backing: .anonymous)
        var options = FaultHandlerOptions()
        // Nobody but this program's own code touches the table, so that it needs no privilege.
        options.faultOrigin = .userOnly
        let handler = try FaultHandler(memory: [ram], pages: Squares(), options: options)
        try handler.start()

        for root: UInt64 in [3, 5, 1_000, 1_000_003, 123_456_789, 1_000_000_007] {
            // The memory is just there: the page comes while this line waits.
            let square = ram.loadWord(at: root * 8)
            precondition(square == Squares.square(of: root), "\(root) has a wrong square")
            print("\(root) squared is \(square)")
        }

        let report = handler.stop()
        print(
            "\(report.progress.urgentPages) of \(table.hostPageCount) pages were computed, each in "
                + "\(report.latency.meanNanoseconds / 1_000) us")
    }
}
