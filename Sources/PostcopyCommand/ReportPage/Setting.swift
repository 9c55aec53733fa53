internal import Postcopy

/// On what, with what options, and how exactly it was measured.
struct Setting {
    private let document: ReportDocument

    init(_ document: ReportDocument) { self.document = document }

    private struct Row {
        let name: String
        let text: String
    }

    @MarkupBuilder var markup: Markup {
        list("How it was measured", timing)
        list("Guest", guest)
        list("Link", link)
        list("Precopy and switch", switchover)
        list("Host", host)
    }

    @MarkupBuilder private func list(_ title: String, _ rows: [Row]) -> Markup {
        if !rows.isEmpty {
            Markup("h3") { title }
            Markup("dl", ["class": "setting"]) {
                for row in rows {
                    Markup("dt") { row.name }
                    Markup("dd") { Markup("bdi") { row.text } }
                }
            }
        }
    }

    private static func rows(_ rows: [(String, String?)]) -> [Row] {
        rows.compactMap { name, text in text.map { Row(name: name, text: $0) } }
    }

    private var timing: [Row] {
        guard let flight = document.flight else {
            return [
                Row(
                    name: "Waits",
                    text: "begin when the fault was read, and end when its page was placed; the "
                        + "report states no bound for what lies before the reading")
            ]
        }
        let timing = flight.timing
        return Self.rows([
            ("Beginnings", Self.beginnings(timing)),
            (
                "Reading",
                "\(Readable.time(timing.readDelayMeanNs)) after the fault on average, "
                    + "\(Readable.time(timing.readDelayMaxNs)) at most"
            ),
            ("Bound", Self.bound(timing)),
            (
                "Recorded",
                Readable.count(flight.recordedWaits, "wait", "waits")
                    + (flight.lostWaits == 0
                        ? "" : "; \(flight.lostWaits) older ones were overwritten")
            ),
            ("Clocks", flight.clock.map(Self.text)),
        ])
    }

    private static func beginnings(_ timing: TimingFigures) -> String {
        let timed = timing.kernelTimed.adding(timing.handlerTimed)
        if timing.handlerTimed == 0 { return "timed by the kernel, all \(timed)" }
        if timing.kernelTimed == 0 { return "taken for when they were read, all \(timed)" }
        return
            "\(timing.kernelTimed) of \(timed) timed by the kernel, the others taken for when they "
            + "were read"
    }

    private static func bound(_ timing: TimingFigures) -> String {
        let below =
            "the total of all waits lies at most \(Readable.time(timing.boundNs)) below the truth"
        switch timing.boundedBy {
        case "unknown":
            return "nothing bounds how far the total of all waits may lie below the truth"
        case "kernel": return "\(below), by the kernel's own times"
        case "probe":
            let above = Readable.time(timing.probe?.overNs ?? 0)
            return "\(below) and \(above) above it, by what the workload's own threads saw"
        case "read-delay": return "\(below), by how long faults took to be read"
        default: return "\(below), by \(timing.boundedBy)"
        }
    }

    private static func text(_ clock: ClockFigures) -> String {
        guard !clock.isShared else { return "both sides share one" }
        let size = Readable.time(clock.offsetNs.magnitude)
        return "the source's is \(size) \(clock.offsetNs < 0 ? "behind" : "ahead of") the "
            + "destination's, give or take \(Readable.time(clock.errorNs))"
    }

    private var guest: [Row] {
        let workload = document.workload
        let guest = document.guest
        return Self.rows([
            (
                "Memory",
                "\(Readable.bytes(document.ram.total)) in pages of "
                    + Readable.bytes(document.ram.pageSize)
            ),
            ("Backing", workload?.backing),
            ("vCPUs", workload.map { "\($0.vcpus)" }),
            (
                "Pattern",
                workload.map { "\($0.pattern), \(Percent.text(share: $0.writeFraction)) writes" }
            ),
            ("Hot set", workload.map { Readable.bytes($0.hotSet) }),
            ("Rate", workload.map { $0.rate == 0 ? "no limit" : "\($0.rate)/s for each vCPU" }),
            ("Filled with", workload?.fill),
            ("Seed", workload.map { "\($0.seed)" }),
            ("Machine", guest?.machineType),
            (
                "Blocks",
                guest.map { guest in
                    let named = guest.blocks.prefix(8).map {
                        "\($0.name) \(Readable.bytes($0.bytes))"
                    }
                    let rest = guest.blocks.count - named.count
                    return named.joined(separator: ", ") + (rest > 0 ? ", and \(rest) more" : "")
                }
            ),
            ("Parked in", guest?.park),
            ("Long accesses", stalls),
        ])
    }

    private var stalls: String? {
        guard let longest = document.workloadStalls?.map(\.maxNs).max() else { return nil }
        return "longest \(Readable.time(longest)), as the vCPUs themselves saw it"
    }

    private var link: [Row] {
        let channels = document.channels
        return Self.rows([
            ("Address", channels.uri),
            ("Transport", channels.transport),
            ("Urgent channel", channels.preempt.map { $0 ? "yes" : "no" }),
            ("Proxy", channels.proxy),
            ("Requests", document.ram.postcopyRequests.map { "\($0)" }),
            ("Placed by request", document.ram.urgentPages.map { "\($0) target pages" }),
            ("Placed in order", document.ram.backgroundPages.map { "\($0) target pages" }),
        ])
            + breaks(document.source, "source") + breaks(document.destination, "destination")
            + Self.rows([("Cuts", joined(document.cutPieces))])
    }

    /// As many as a summary tells; the timeline has all that were kept.
    private static let breaksMax = 4

    private func breaks(_ side: SideFigures?, _ name: String) -> [Row] {
        let breaks = side?.breaks ?? []
        let told = breaks.prefix(Self.breaksMax).map {
            Row(name: "Break", text: "\(name): \($0.text)")
        }
        let rest = breaks.count - told.count
        return told + (rest > 0 ? [Row(name: "Breaks", text: "\(name): \(rest) more")] : [])
    }

    private func joined(_ pieces: [String?]) -> String? {
        let known = pieces.compactMap(\.self)
        return known.isEmpty ? nil : known.joined(separator: ", ")
    }

    private var switchover: [Row] {
        let switchover = document.switchover
        return Self.rows([
            ("Switch", switchover?.reason),
            ("Owed then", switchover.map { Readable.bytes($0.owedBytes) }),
            (
                "Bandwidth",
                switchover.map {
                    Readable.rate(Double($0.bandwidthBytesPerSecond))
                }
            ),
            ("Dirtied", switchover.map { Readable.rate(Double($0.dirtyBytesPerSecond)) }),
            ("Rounds", document.ram.dirtySyncCount.map { "\($0)" }),
            ("Throttled", document.cpuThrottlePercentage.map { "up to \($0) %" }),
        ])
    }

    private var host: [Row] {
        let machine = document.machine
        let loads = machine.loadAverage.prefix(3).map { Coordinate.text($0) }
        return Self.rows([
            ("CPUs", "\(machine.cpus)"),
            ("Kernel", machine.kernel),
            ("Load before", loads.isEmpty ? nil : loads.joined(separator: ", ")),
            ("Command", document.command),
            ("Schema", "\(document.schema)"),
            ("Faults of", document.destination?.faultOrigin),
            ("Resident", document.source?.peakResidentBytes.map { "source \(Readable.bytes($0))" }),
            (
                "Resident",
                document.destination?.peakResidentBytes.map { "destination \(Readable.bytes($0))" }
            ),
        ])
    }
}
