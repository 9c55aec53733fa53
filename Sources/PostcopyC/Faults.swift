internal import CPostcopy
internal import Glibc
internal import Postcopy
internal import Synchronization

/// `postcopy_faults`.
final class Faults: Handled {
    static let kind = "postcopy_faults"

    private enum Stage {
        case ready
        case serving
        case stopped(FaultReport)
        case freed
    }

    let handler: FaultHandler
    private let pages: CallbackPages
    /// Of this process; none where another's memory is served.
    private let blocks: [RAMBlock]
    private let stage = Mutex(Stage.ready)

    init(_ options: postcopy_faults_options) throws(Failure) {
        guard unsafe (options.read == nil) != (options.file == nil) else {
            throw .invalid("postcopy_faults_options needs either read or file")
        }
        let settings = try unsafe FaultHandlerOptions(options)
        blocks = try unsafe [RAMBlock](options.ram, options.ram_count)
        let regions = try unsafe Self.regions(options)
        guard blocks.isEmpty != regions.isEmpty else {
            throw .invalid("postcopy_faults_options needs either ram or regions")
        }
        let described = try coded {
            regions.isEmpty ? [] : try ForeignMemory.checked(regions)
        }
        pages = unsafe CallbackPages(
            options, of: blocks.map(\.ram.geometry) + described.map(\.geometry))
        let told = settings.telling(pages)
        let provider = try unsafe Self.provider(options, pages, blocks.map(\.ram), described)
        let memory = blocks.map(\.ram)
        let descriptor = unsafe options.userfaultfd
        handler = try coded {
            guard !memory.isEmpty else {
                let foreign = try ForeignMemory(
                    userfaultfd: FileDescriptor(duplicating: descriptor), regions: regions)
                return try FaultHandler(serving: foreign, pages: provider, options: told)
            }
            return try FaultHandler(memory: memory, pages: provider, options: told)
        }
        try blocks.retain()
    }

    func start() throws(Failure) {
        try stage.withLock { stage throws(Failure) in
            // Somebody who still held on to it: its memory may be gone.
            if case .freed = stage { throw Self.freed }
            try coded { try handler.start() }
            stage = .serving
        }
    }

    func waitUntilFilled(timeoutNanoseconds timeout: UInt64) throws(Failure) {
        try pages.callers.refuseBlocking("postcopy_faults_wait_filled")
        guard handler.waitUntilFilled(timeoutNanoseconds: timeout) else { throw .timedOut }
    }

    func waitUntilEnded(timeoutNanoseconds timeout: UInt64) throws(Failure) {
        try pages.callers.refuseBlocking("postcopy_faults_wait_ended")
        guard handler.waitUntilEnded(timeoutNanoseconds: timeout) else { throw .timedOut }
    }

    func stop() throws(Failure) {
        try pages.callers.refuseBlocking("postcopy_faults_stop")
        let report = handler.stop()
        stage.withLock { stage in
            if case .freed = stage { return }
            stage = .stopped(report)
        }
        if let error = report.error { throw .notCompleted("\(error)") }
    }

    /// What it left; `nil` before it was stopped.
    var report: FaultReport? {
        guard case .stopped(let report) = stage.withLock({ $0 }) else { return nil }
        return report
    }

    func close() throws(Failure) {
        try stage.withLock { stage throws(Failure) in
            switch stage {
            case .serving:
                throw .wrongState(
                    "the postcopy_faults serves pages: call postcopy_faults_stop first")
            // Whoever waits for its end goes on: nobody will start it.
            case .ready: handler.stop()
            case .stopped: break
            case .freed: throw Self.freed
            }
            stage = .freed
        }
        blocks.release()
    }

    private static let freed = Failure.badHandle("the \(kind) was freed")

    private static func regions(
        _ options: postcopy_faults_options
    ) throws(Failure) -> [ForeignRegionDescription] {
        let count = unsafe options.region_count
        guard (0...ForeignMemory.regionsMax).contains(count) else {
            throw .invalid("\(count) regions are over \(ForeignMemory.regionsMax)")
        }
        guard count > 0 else { return [] }
        guard let given = unsafe options.regions else {
            throw .null("postcopy_faults_options.regions")
        }
        return (0..<count).map { index in
            let region = unsafe given[index]
            return ForeignRegionDescription(
                address: region.address, lengthBytes: region.length,
                contentOffset: region.content_offset, pageBytes: region.page_size)
        }
    }

    private static func provider(
        _ options: postcopy_faults_options, _ pages: CallbackPages, _ memory: [GuestRAM],
        _ regions: [ForeignRegion]
    ) throws(Failure) -> any PageProvider {
        guard unsafe options.file != nil else { return pages }
        let path = try unsafe text(options.file, "postcopy_faults_options.file")
        return try coded {
            regions.isEmpty
                ? try FilePages(path, of: memory) : try FilePages(path, of: regions)
        }
    }
}

extension FaultHandlerOptions {
    private static var knownFlags: Int {
        POSTCOPY_REREAD_REMOVED | POSTCOPY_UNREADABLE_IS_ZERO | POSTCOPY_MISSING_IS_LOST
    }

    /// - Parameter options: where 0 is the default.
    fileprivate init(_ options: postcopy_faults_options) throws(Failure) {
        self.init()
        let flags = unsafe Int(options.flags)
        guard flags & ~Self.knownFlags == 0 else {
            throw .invalid("postcopy_faults_options.flags has bits that this library does not know")
        }
        removedPagesAreZero = flags & POSTCOPY_REREAD_REMOVED == 0
        unservablePage = flags & POSTCOPY_UNREADABLE_IS_ZERO == 0 ? .waits : .zeros
        missingAtStop = flags & POSTCOPY_MISSING_IS_LOST == 0 ? nil : .lost
        faultOrigin = try FaultOrigin(unsafe options.fault_origin, "postcopy_faults_options")
        if unsafe options.workers != 0 { workers = unsafe Int(options.workers) }
        if unsafe options.attempts != 0 { attempts = unsafe Int(options.attempts) }
        if unsafe options.background_bytes != 0 {
            backgroundBytes = unsafe Int(options.background_bytes)
        }
        if unsafe options.attempt_pause != 0 {
            pauseNanoseconds = unsafe options.attempt_pause
        }
    }

    fileprivate func telling(_ pages: CallbackPages) -> FaultHandlerOptions {
        var options = self
        options.pageLost = { pages.tell($0) }
        options.ended = { pages.tell($0) }
        return options
    }
}

extension FileDescriptor {
    /// Owns another descriptor of the same file.
    fileprivate init(duplicating raw: Int32) throws(Failure) {
        let own = fcntl(raw, F_DUPFD_CLOEXEC, 0)
        guard own >= 0 else {
            throw .system("descriptor \(raw): \(Errno(rawValue: errno))")
        }
        self.init(owning: own)
    }
}
