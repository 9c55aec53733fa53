/// What the command line says of how to measure.
struct Settings {
    /// Guest memory of the sections that migrate.
    var memoryBytes: UInt64 = 512 << 20
    var runs = 7
}

/// The parts of the benchmark, in the order in which they run. `--only` takes their names; another
/// part is another case here, and a file that measures it.
enum Section: String, CaseIterable {
    case faults
    case handler
    case discards
    case scan
    case zero
    case rate
    case serve
    case recorder

    func title(_ settings: Settings) -> String {
        switch self {
        case .faults:
            "fault latency as the faulting thread sees it, \(settings.memoryBytes >> 20) MiB, "
                + "random order; floor: a bare loop over loopback TCP"
        case .handler:
            "fault handler without a migration, pages of a file in the page cache, random order; "
                + "floor: one thread that polls, reads the file and places"
        case .discards:
            "canonicalize and encode the discards of one block, random pages dirty; floor: reading "
                + "both bitmaps once"
        case .scan: "next dirty run, over a bitmap of 32 MiB; floor: reading it once"
        case .zero:
            "zero-page scan of memory that is mapped and written; floor: reading it in order"
        case .rate: RateBench.title
        case .serve: ServeSection.title
        case .recorder: RecorderSection.title
        }
    }

    func measure(_ settings: Settings) throws -> [Row] {
        switch self {
        case .faults: try FaultSection(settings: settings).rows()
        case .handler: try HandlerSection(runs: settings.runs).rows()
        case .discards: try DiscardSection(runs: settings.runs).rows()
        case .scan: try ScanSection(runs: settings.runs).rows()
        case .zero: try ZeroSection(runs: settings.runs).rows()
        case .rate: try RateBench.run()
        case .serve: try ServeSection(settings: settings).rows()
        case .recorder: try RecorderSection(runs: settings.runs).rows()
        }
    }
}
