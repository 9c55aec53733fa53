import Foundation
import Postcopy

/// A machine that comes back from a memory file: its threads run at once, pages follow as they are
/// needed. The second time the pages that the first run needed are fetched ahead.
///
/// `swift run snapshot`
@main
enum Snapshot {
    static func main() throws {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-snapshot-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: folder) }
        let memoryFile = folder.appendingPathComponent("memory").path
        let traceFile = folder.appendingPathComponent("trace").path
        try Machine.writeSnapshot(to: folder.path, as: "memory")

        let first = try resume(from: memoryFile, ahead: nil)
        try first.report.trace.write(to: traceFile)
        print("without a trace: \(first)")
        let second = try resume(from: memoryFile, ahead: FaultTrace(contentsOf: traceFile))
        print("with the trace:  \(second)")
    }

    struct Run: CustomStringConvertible {
        let firstNanoseconds: UInt64
        let allNanoseconds: UInt64
        let report: FaultReport

        var description: String {
            "first request done after \(text(firstNanoseconds)), all \(Machine.requests) after "
                + "\(text(allNanoseconds)); \(report.progress.faults) faults, "
                + "\(report.progress.backgroundPages) pages fetched ahead"
        }

        private func text(_ nanoseconds: UInt64) -> String {
            String(format: "%.1f ms", Double(nanoseconds) / 1e6)
        }
    }

    static func resume(from path: String, ahead trace: FaultTrace?) throws -> Run {
        let machine = try Machine()
        var options = FaultHandlerOptions()
        options.faultOrigin = .userOnly
        // The storage answers late, and can answer several at once.
        options.backgroundThreads = 8
        let pages = DistantPages(pages: try FilePages(path, of: [machine.ram]))
        let handler = try FaultHandler(memory: [machine.ram], pages: pages, options: options)
        if let trace { try handler.prefetch(trace) }
        let start = Monotonic.now()
        try handler.start()
        let done = try machine.run()
        return Run(
            firstNanoseconds: done.first - start, allNanoseconds: done.all - start,
            report: handler.stop())
    }
}

/// A memory file on storage that is far away: each reading takes a fifth of a millisecond longer.
struct DistantPages: PageProvider {
    let pages: FilePages

    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        Monotonic.sleep(untilNanoseconds: Monotonic.now() + 200_000)
        return try pages.read(&bytes, at: offset, of: block)
    }
}

/// What resumes: two threads that answer requests, each from a page somewhere in 128 MiB.
struct Machine: Sendable {
    static let pageCount = 32_768
    static let requests = 2_000
    let ram: GuestRAM

    init() throws {
        let page = HostMemory.pageSize
        let block = try BlockGeometry(
            name: "machine.ram", lengthBytes: UInt64(Self.pageCount) * page.bytes, hostPage: page)
        ram = try GuestRAM(block, backing: .anonymous)
    }

    /// What the machine had in each page when it was saved.
    static func content(of page: Int) -> UInt64 { UInt64(page + 1) &* 0x9E37_79B9_7F4A_7C15 }

    /// Saves a machine that has run: its memory as it is.
    static func writeSnapshot(to folder: String, as name: String) throws {
        let machine = try Machine()
        let block = machine.ram.geometry
        for page in 0..<pageCount {
            machine.ram.storeWord(content(of: page), at: UInt64(page) * block.hostPage.bytes)
        }
        let file = try Folder(folder).make(file: name)
        let whole = RAMOffset(rawValue: 0)..<RAMOffset(rawValue: block.lengthBytes)
        try file.write(whole, of: machine.ram)
    }

    /// Answers all requests; says when the first and when the last was done.
    func run() throws -> (first: UInt64, all: UInt64) {
        let helper = try JoinableThread(name: "machine-1") { [self] in answerEachSecond(from: 1) }
        let first = min(answerEachSecond(from: 0), helper.join())
        return (first, Monotonic.now())
    }

    private func answerEachSecond(from start: Int) -> UInt64 {
        var first: UInt64?
        for request in stride(from: start, to: Self.requests, by: 2) {
            let page = Int(UInt64(request) &* 0x9E37_79B9_7F4A_7C15 >> 20) % Self.pageCount
            let word = ram.loadWord(at: UInt64(page) * ram.geometry.hostPage.bytes)
            precondition(word == Self.content(of: page), "page \(page) is not what was saved")
            if first == nil { first = Monotonic.now() }
        }
        return first ?? 0
    }
}
