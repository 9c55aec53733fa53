internal import Postcopy

/// The report of `serve-faults` as people read it: a row for each subject of each client.
struct ServeTable {
    let document: ServeDocument

    /// More than these are counted only.
    private static let clientsMax = 16

    /// Lines of at most `columns` characters, as far as a single number fits.
    func text(columns: Int) -> String {
        var rows: [(label: String, pieces: [String])] = [("status", [document.status])]
        func add(_ label: String, _ pieces: [String?]) {
            let known = pieces.compactMap(\.self)
            if !known.isEmpty { rows.append((label, known)) }
        }
        add(
            "content",
            [document.content.kind, document.content.place, Readable.bytes(document.content.bytes)])
        add("arrival", arrivalPieces)
        for (index, client) in document.clients.prefix(Self.clientsMax).enumerated() {
            add("client \(index + 1)", clientPieces(client))
            add("  pages", pagePieces(client))
            add("  not brought ahead", [client.aheadErrorDesc])
            add("  fault latency", client.latencyNs?.pieces ?? [])
        }
        let more = document.clients.count - Self.clientsMax
        if more > 0 { add("clients", ["\(more) more"]) }
        return lines(rows, columns).map { "\($0)\n" }.joined()
    }

    private func lines(
        _ rows: [(label: String, pieces: [String])], _ columns: Int
    ) -> [String] {
        let label = rows.map(\.label.count).max() ?? 0
        return rows.flatMap { row in
            SummaryTable.wrap(row.pieces, into: max(1, columns - label - 4)).enumerated().map {
                index, value in
                "  \(TextColumns.left(index == 0 ? row.label : "", label))  \(value)"
            }
        }
    }

    private var arrivalPieces: [String?] {
        guard let arrival = document.arrival else { return [] }
        return [
            arrival.status, "\(Readable.bytes(arrival.receivedBytes)) received",
            "\(arrival.requests) requests",
            arrival.missingPages > 0 ? "\(arrival.missingPages) pages missing" : nil,
            arrival.breaks > 0 ? "\(arrival.breaks) breaks of the link" : nil,
        ]
    }

    private func clientPieces(_ client: ServedClientFigures) -> [String?] {
        [
            client.ending, client.pid.map { "process \($0)" },
            client.bytes > 0
                ? "\(Readable.bytes(client.bytes)) in "
                    + Readable.count(UInt64(client.regions.count), "region", "regions") : nil,
            "for \(Readable.time(client.lastedNs))",
            client.faults.map { Readable.count($0, "fault", "faults") },
        ]
    }

    private func pagePieces(_ client: ServedClientFigures) -> [String?] {
        func some(_ count: UInt64?, _ what: String) -> String? {
            count.flatMap { $0 > 0 ? "\($0) \(what)" : nil }
        }
        return [
            client.urgentPages.map { "\($0) asked for" },
            some(client.backgroundPages, "brought ahead"), some(client.zeroPages, "zero"),
            client.removedBytes.flatMap { $0 > 0 ? "\(Readable.bytes($0)) given up" : nil },
            some(client.missingPages.map { UInt64($0) }, "never needed"),
            some(client.lostPages, "could not be served"),
            some(client.providerErrors, "failed reads"),
        ]
    }
}
