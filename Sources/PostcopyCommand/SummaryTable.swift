internal import Postcopy

/// The report as people read it: the phases, then one row for each subject.
struct SummaryTable {
    let document: ReportDocument

    init(_ document: ReportDocument) { self.document = document }

    /// Narrower than this, a subject stands above what is said of it.
    private static let columnsMin = 40

    /// Lines of at most `columns` characters.
    func text(columns: Int) -> String {
        let rows = subjectRows
        let label = rows.map(\.label.count).max() ?? 0
        var lines = phaseLines(columns)
        if !lines.isEmpty { lines.append("") }
        for row in rows {
            guard columns >= Self.columnsMin else {
                let margin = FittedTable.margin
                lines += WrappedText.lines(row.label, columns: columns, margin: margin)
                lines += Self.wrap(row.pieces, into: max(1, columns - 2 * margin.count))
                    .map { "\(margin)\(margin)\($0)" }
                continue
            }
            let wrapped = Self.wrap(row.pieces, into: max(1, columns - label - 4))
            for (index, value) in wrapped.enumerated() {
                let head = index == 0 ? row.label : ""
                lines.append("  \(TextColumns.left(head, label))  \(value)")
            }
        }
        return lines.map { "\($0)\n" }.joined()
    }

    private struct Row {
        let label: String
        /// Joined by commas, broken only between them.
        let pieces: [String]
    }

    // MARK: Phases

    private struct PhaseRow {
        let status: String
        let side: String
        let at: UInt64
        let lasted: UInt64
    }

    private func phaseLines(_ columns: Int) -> [String] {
        let start = document.source?.startedAtNs ?? document.destination?.startedAtNs ?? 0
        let rows =
            Self.rows(document.source, "source", from: start)
            + Self.rows(document.destination, "destination", from: start)
        guard !rows.isEmpty else { return [] }
        let cells =
            rows.sorted { $0.at < $1.at }.map { row in
                [
                    row.status, row.side, Readable.time(row.at),
                    row.lasted == 0 ? "" : Readable.time(row.lasted),
                ]
            }
        return FittedTable(
            header: ["phase", "side", "at", "for"], rows: cells,
            sides: [.left, .left, .right, .right]
        ).lines(columns: columns)
    }

    private static func rows(
        _ side: SideFigures?, _ name: String, from start: UInt64
    ) -> [PhaseRow] {
        guard let side else { return [] }
        return side.phases.map { phase in
            let at = side.startedAtNs + phase.atNs
            return PhaseRow(
                status: phase.status, side: name, at: at - min(start, at),
                lasted: phase.durationNs)
        }
    }

    // MARK: Subjects

    private var subjectRows: [Row] {
        var rows = [Row(label: "status", pieces: [document.status])]
        func add(_ label: String, _ pieces: [String?]) {
            let known = pieces.compactMap(\.self)
            if !known.isEmpty { rows.append(Row(label: label, pieces: known)) }
        }
        add("total time", [document.totalTimeNs.map(Readable.time)])
        add("downtime", [document.downtimeNs.map(Readable.time)])
        add("switchover", switchoverPieces)
        add("rounds", roundPieces)
        add("precopy", precopyPieces)
        add("discards", discardPieces)
        add("machine", machinePieces)
        add("relay", relayPieces)
        add("bytes", bytePieces)
        add("pages", pagePieces)
        add("requests", [document.ram.postcopyRequests.map { "\($0)" }])
        add("vCPU blocktime", blocktimePieces)
        add("fault latency", latencyPieces)
        add("faults timed", document.flight?.timing.pieces ?? [])
        add("time went", document.flight?.causePieces ?? [])
        add("long accesses", stallPieces)
        add("link breaks", document.breakPieces)
        add("link cuts", document.cutPieces)
        add(
            "missing",
            (document.missing ?? []).map { block in
                "\(block.hostPages) pages (\(Readable.bytes(block.bytes))) of '\(block.block)'"
            })
        add("lost memory", [document.vcpusInLostMemory.map { "\($0) vCPUs touched it" }])
        add(
            "resident",
            document.relay == nil
                ? [
                    document.source?.peakResidentBytes.map { "source \(Readable.bytes($0))" },
                    document.destination?.peakResidentBytes.map {
                        "destination \(Readable.bytes($0))"
                    },
                ] : [document.source?.peakResidentBytes.map(Readable.bytes)])
        if !document.isOpaque { add("huge pages", hugePagePieces) }
        add("not locked", [document.destination?.lockProblem])
        add("verified", verifyPieces)
        return rows
    }

    private var hugePagePieces: [String?] {
        func share(_ bytes: UInt64?, _ place: String) -> String? {
            bytes.map { "\(place) \($0 * 100 / max(1, document.ram.total)) %" }
        }
        let destination = document.destination
        let healed = destination?.healedRanges.map { "\($0) rebuilt" }
        return [
            share(document.source?.hugeBytesAtStart, "source"),
            share(destination?.hugeBytesAtEnd, "destination"),
            healed.map { "\($0) in \(Readable.time(destination?.healNs ?? 0))" },
        ]
    }

    private var machinePieces: [String?] {
        guard let guest = document.guest else { return [] }
        return [
            guest.machineType,
            Readable.count(UInt64(guest.blocks.count), "RAM block", "RAM blocks"),
            Readable.bytes(document.ram.total),
            guest.deviceBytes.map { "\(Readable.bytes(UInt64($0))) of devices" },
            guest.park.map { "parked in \($0)" },
        ]
    }

    private var relayPieces: [String?] {
        guard let relay = document.relay else { return [] }
        return [
            "\(Readable.bytes(relay.heldBytes)) held",
            relay.sourceFreeAtNs.map { "all of it here after \(Readable.time($0))" },
            relay.handedOnAtNs.map { "handed on after \(Readable.time($0))" },
            relay.attempts > 1 ? "\(relay.attempts) attempts" : nil,
        ]
    }

    private var bytePieces: [String?] {
        let ram = document.ram
        return [
            ram.transferred.map { "\(Readable.bytes($0)) in all" },
            ram.precopyBytes.map { "precopy \(Readable.bytes($0))" },
            ram.downtimeBytes.map { "downtime \(Readable.bytes($0))" },
            ram.postcopyBytes.map { "postcopy \(Readable.bytes($0))" },
            document.ram.transferred == nil
                ? document.destination?.receivedBytes.map { "\(Readable.bytes($0)) received" }
                : nil,
        ]
    }

    private var pagePieces: [String?] {
        let ram = document.ram
        return [
            ram.normal.map { "\($0) sent" }, ram.duplicate.map { "\($0) zero" },
            ram.urgentPages.map { "\($0) placed by request" },
            ram.backgroundPages.map { "\($0) placed in order" },
        ]
    }

    private var blocktimePieces: [String?] {
        let vcpus = (document.postcopyVcpuBlocktimeNs ?? []).enumerated().map { index, time in
            "vcpu\(index) \(Readable.time(time))"
        }
        return vcpus + [document.postcopyBlocktimeNs.map { "overlapped \(Readable.time($0))" }]
    }

    private var latencyPieces: [String?] { document.postcopyLatencyNs?.pieces ?? [] }

    private var stallPieces: [String?] {
        (document.workloadStalls ?? []).enumerated().map { index, stall in
            "vcpu\(index) \(stall.count), longest \(Readable.time(stall.maxNs))"
        }
    }

    private var verifyPieces: [String?] {
        if document.isOpaque { return [] }
        guard let verify = document.verify else {
            return [document.isVerifiedElsewhere ? "at the destination, which reports it" : "no"]
        }
        return verify.pieces + ["at the \(verify.side)"]
    }

    // MARK: Layout

    /// Breaks between pieces, and inside one that has no line of its own.
    static func wrap(_ pieces: [String], into width: Int) -> [String] {
        var lines: [String] = []
        for (index, piece) in pieces.enumerated() {
            let text = index + 1 < pieces.count ? piece + "," : piece
            if let last = lines.last, last.count + 1 + text.count <= width {
                lines[lines.count - 1] = "\(last) \(text)"
            } else {
                lines.append(text)
            }
        }
        return lines.flatMap {
            $0.count > width ? WrappedText.lines($0, columns: width, margin: "") : [$0]
        }
    }
}

extension LatencyFigures {
    var pieces: [String] {
        [
            Readable.count(count, "wait", "waits"), "mean \(Readable.time(mean))",
            "p50 \(Readable.time(p50))", "p90 \(Readable.time(p90))",
            "p99 \(Readable.time(p99))", "max \(Readable.time(max))",
        ]
    }
}
