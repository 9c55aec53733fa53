internal import CShims
internal import PageModel

/// What the kernel knows of this process's pages (`PAGEMAP_SCAN`, Linux 6.7), for any thread.
struct PageMap: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// - Throws: `EACCES` in a process that may not be dumped, `ENOENT` without /proc.
    init() throws(Errno) {
        descriptor = FileDescriptor(owning: try Errno.check(pc_pagemap_open()))
    }

    /// Runs that one call stores. The kernel gathers 512 at a time, whatever it is given.
    private static let runsMax = 512

    /// Hands the runs of pages written since they were last protected to `body`, in order.
    /// - Parameter protecting: each page found is protected anew in the same step, before its run
    ///   is handed on.
    /// - Throws: `ENOTTY` where the kernel cannot scan, `EPERM` when it shall protect what is not
    ///   registered, and what `body` throws.
    func forEachWritten(
        in addresses: Range<HostAddress>, protecting: Bool,
        _ body: (Range<HostAddress>) throws(Errno) -> Void
    ) throws(Errno) {
        try forEachRun(in: addresses, having: [PC_PAGE_WRITTEN], protecting: protecting, body)
    }

    /// The bytes of a range whose pages have every one of `categories`.
    /// - Throws: `ENOTTY` where the kernel cannot scan.
    func bytes(
        in addresses: Range<HostAddress>, having categories: [pc_page_category]
    ) throws(Errno) -> UInt64 {
        var sum: UInt64 = 0
        try forEachRun(in: addresses, having: categories, protecting: false) { run in
            sum += run.lengthBytes
        }
        return sum
    }

    private func forEachRun(
        in addresses: Range<HostAddress>, having categories: [pc_page_category], protecting: Bool,
        _ body: (Range<HostAddress>) throws(Errno) -> Void
    ) throws(Errno) {
        let wanted = categories.reduce(0) { $0 | UInt64($1.rawValue) }
        try unsafe withUnsafeTemporaryAllocation(of: pc_page_run.self, capacity: Self.runsMax) {
            runs throws(Errno) in
            var next = addresses.lowerBound.rawValue
            let end = addresses.upperBound.rawValue
            while next < end {
                var walkEnd: UInt64 = 0
                let count = try Errno.check(
                    unsafe pc_pagemap_scan(
                        descriptor.raw, next, end, wanted, protecting ? 1 : 0, runs.baseAddress,
                        Self.runsMax, &walkEnd))
                for index in 0..<Int(count) {
                    let run = unsafe runs[index]
                    try body(HostAddress(rawValue: run.start)..<HostAddress(rawValue: run.end))
                }
                // It stops only behind a page that it has told, or at the end.
                precondition(walkEnd > next)
                next = walkEnd
            }
        }
    }
}

extension Range<HostAddress> {
    var lengthBytes: UInt64 { upperBound.rawValue - lowerBound.rawValue }

    /// The bytes up to the next multiple of `pieceBytes` in the address space, or to the end.
    func firstPiece(ofBytes pieceBytes: UInt64) -> Self {
        let end = (lowerBound.rawValue / pieceBytes + 1) * pieceBytes
        return lowerBound..<Swift.min(HostAddress(rawValue: end), upperBound)
    }

    /// Hands on all such pieces: no huge page is cut but by the ends of the range.
    func forEachPiece<Failure: Error>(
        ofBytes pieceBytes: UInt64, _ body: (Self) throws(Failure) -> Void
    ) throws(Failure) {
        var rest = self
        while !rest.isEmpty {
            let piece = rest.firstPiece(ofBytes: pieceBytes)
            try body(piece)
            rest = piece.upperBound..<upperBound
        }
    }
}
