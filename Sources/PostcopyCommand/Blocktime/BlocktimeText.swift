internal import Postcopy
internal import StreamWire

/// What `postcopy blocktime` found, as people read it: one run in full, or several side by side.
struct BlocktimeText {
    private let runs: [BlocktimeRun]
    private let columns: Int

    /// - Parameter columns: how wide lines may be.
    init(_ document: BlocktimeDocument, columns: Int) {
        runs = document.columns
        self.columns = columns
    }

    var text: String {
        var sections: [[String]]
        if runs.count == 1 {
            sections = [
                section("blocktime", parties(runs[0]) + timing(runs[0])),
                section("where the time went", causes(runs[0])),
                section("how long waits were", DistributionText(runs[0]).lines(columns: columns)),
                section("worst waits", worst(runs[0])),
            ]
        } else {
            sections = [
                section("blocktime", compared(Self.figures)),
                section("by thread", comparedParties),
                section("where the time went", comparedCauses),
            ]
            sections += runs.map { run in
                section(
                    "how long waits were: \(PeerText.plain(run.name))",
                    DistributionText(run).lines(columns: columns))
            }
        }
        return sections.filter { !$0.isEmpty }.map { $0.joined(separator: "\n") }
            .joined(separator: "\n\n") + "\n"
    }

    private func section(_ title: String, _ lines: [String]) -> [String] {
        lines.isEmpty ? [] : WrappedText.lines(title, columns: columns, margin: "") + lines
    }
}

// MARK: One run

extension BlocktimeText {
    private func parties(_ run: BlocktimeRun) -> [String] {
        let header = ["thread", "total", "waits", "mean", "p50", "p99", "max"]
        func time(_ nanoseconds: UInt64?) -> String { nanoseconds.map(Readable.time) ?? "" }
        let rows = (run.vcpus + run.others + [run.all]).map { party in
            [
                PeerText.plain(party.name), time(party.totalNs), party.waits.map { "\($0)" } ?? "",
                time(party.meanNs), time(party.p50Ns), time(party.p99Ns), time(party.maxNs),
            ]
        }
        let overlapped = run.overlappedNs.map {
            [["overlapped", time($0)] + Array(repeating: "", count: header.count - 2)]
        }
        return FittedTable(header: header, rows: rows + (overlapped ?? [])).lines(columns: columns)
    }

    private func timing(_ run: BlocktimeRun) -> [String] {
        var sentences: [String] = []
        if run.all.waits == 0 { sentences.append("Nobody waited for a page.") }
        if let pieces = run.timing?.pieces, !pieces.isEmpty {
            sentences.append("Faults were timed " + pieces.joined(separator: ", ") + ".")
        }
        if let clock = run.clock, !clock.isShared {
            let word = clock.offsetNs < 0 ? "behind" : "ahead of"
            sentences.append(
                "The source's clock is \(Readable.time(clock.offsetNs.magnitude)) \(word) the "
                    + "destination's, give or take \(Readable.time(clock.errorNs)).")
        }
        if let lost = run.lostWaits, lost > 0 {
            sentences.append(
                "\(Readable.count(lost, "older wait is", "older waits are")) not recorded any more."
            )
        }
        return sentences.flatMap {
            WrappedText.lines($0, columns: columns, margin: FittedTable.margin)
        }
    }

    private func causes(_ run: BlocktimeRun) -> [String] {
        let whole = run.attributedNs ?? 0
        let rows = run.attribution.filter { $0.ns > 0 }.map { cause in
            [
                cause.text, Percent.text(cause.ns, of: whole), Readable.time(cause.ns),
                cause.waits.map { "\($0)" } ?? "",
            ]
        }
        guard !rows.isEmpty else { return [] }
        let all = [["all", Percent.text(whole, of: whole), Readable.time(whole), ""]]
        return FittedTable(header: ["", "share", "time", "largest in"], rows: rows + all)
            .lines(columns: columns)
    }

    private func worst(_ run: BlocktimeRun) -> [String] {
        run.worst.flatMap { wait in
            WrappedText.lines(
                "\(Readable.time(wait.ns)) \(wait.party) at byte \(wait.offset) of "
                    + "\(PeerText.quoted(wait.block)): \(PeerText.plain(wait.reason))",
                columns: columns, margin: FittedTable.margin)
        }
    }
}

// MARK: Several runs

extension BlocktimeText {
    private typealias Row = (label: String, cell: (BlocktimeRun) -> String)

    private static var figures: [Row] {
        [
            ("total", { Readable.time($0.all.totalNs) }),
            ("waits", { $0.all.waits.map { "\($0)" } ?? "" }),
            ("mean", { time($0.all.meanNs) }), ("p50", { time($0.all.p50Ns) }),
            ("p90", { time($0.all.p90Ns) }), ("p99", { time($0.all.p99Ns) }),
            ("p99.9", { time($0.all.p999Ns) }), ("max", { time($0.all.maxNs) }),
            ("overlapped", { time($0.overlappedNs) }),
        ]
    }

    private static func time(_ nanoseconds: UInt64?) -> String {
        nanoseconds.map(Readable.time) ?? ""
    }

    private func compared(_ rows: [Row]) -> [String] {
        FittedTable(
            header: [""] + runs.map { PeerText.plain($0.name) },
            rows: rows.map { row in [row.label] + runs.map(row.cell) }
        ).lines(columns: columns)
    }

    private var comparedParties: [String] {
        compared(partyRows(\.vcpus) + partyRows(\.others))
    }

    /// Of one kind: another thread may have a vCPU's name.
    private func partyRows(_ parties: @escaping (BlocktimeRun) -> [PartyFigures]) -> [Row] {
        Self.names(runs.map { parties($0).map(\.name) }).map { name in
            (
                PeerText.plain(name),
                { run in
                    let totals = parties(run).filter { $0.name == name }.map(\.totalNs)
                    return totals.isEmpty ? "" : Self.time(totals.reduce(0) { $0.adding($1) })
                }
            )
        }
    }

    private var comparedCauses: [String] {
        let causes = Self.names(runs.map { $0.attribution.filter { $0.ns > 0 }.map(\.cause) })
        return compared(
            causes.map { name in
                (
                    CauseFigures(cause: name, ns: 0).text,
                    { run in
                        run.attribution.first { $0.cause == name }.map {
                            Percent.text($0.ns, of: run.attributedNs ?? 0)
                        } ?? ""
                    }
                )
            })
    }

    /// Each name once, in the order in which they first come.
    private static func names(_ lists: [[String]]) -> [String] {
        var seen: Set<String> = []
        return lists.flatMap(\.self).filter { seen.insert($0).inserted }
    }
}
