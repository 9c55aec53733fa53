internal import Postcopy

/// The figures of all runs as CSV (RFC 4180): a row for each party, cause and bucket.
struct BlocktimeCSV {
    private let document: BlocktimeDocument

    init(_ document: BlocktimeDocument) { self.document = document }

    private static let header = [
        "run", "kind", "name", "total-ns", "waits", "mean-ns", "p50-ns", "p90-ns", "p99-ns",
        "p999-ns", "max-ns",
    ]

    /// Lines end as the RFC says.
    var text: String {
        let rows = [Self.header] + document.columns.flatMap(rows)
        return rows.map { $0.map(Self.field).joined(separator: ",") + "\r\n" }.joined()
    }

    private func rows(_ run: BlocktimeRun) -> [[String]] {
        func row(_ kind: String, _ name: String, _ numbers: [UInt64?]) -> [String] {
            let cells = [run.name, kind, name] + numbers.map { $0.map { "\($0)" } ?? "" }
            return cells + Array(repeating: "", count: Self.header.count - cells.count)
        }
        func row(_ kind: String, _ party: PartyFigures) -> [String] {
            row(
                kind, party.name,
                [
                    party.totalNs, party.waits, party.meanNs, party.p50Ns, party.p90Ns, party.p99Ns,
                    party.p999Ns, party.maxNs,
                ])
        }
        let buckets = (run.dist ?? []).enumerated().map { index, count in
            row("bucket", BucketText.name(of: index), [nil, count])
        }
        return run.vcpus.map { row("vcpu", $0) } + run.others.map { row("other", $0) }
            + [row("all", run.all)]
            + (run.overlappedNs.map { [row("overlapped", "all vcpus", [$0])] } ?? [])
            + run.attribution.map { row("cause", $0.cause, [$0.ns, $0.waits]) } + buckets
    }

    /// In quotes where it holds what would end it.
    static func field(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            ![UInt8(ascii: ","), UInt8(ascii: "\""), UInt8(ascii: "\r"), UInt8(ascii: "\n")]
                .contains(byte)
        }
        guard !isPlain else { return text }
        // By scalars: what follows a quote may be one character with it.
        var quoted = "\""
        for scalar in text.unicodeScalars {
            if scalar == "\"" { quoted.unicodeScalars.append(scalar) }
            quoted.unicodeScalars.append(scalar)
        }
        return quoted + "\""
    }
}

/// QEMU's buckets of latency by name.
enum BucketText {
    /// "below 2 us", "16-32 us", "from 8.39 s".
    static func name(of index: Int) -> String {
        let from = UInt64(1_000) << UInt64(index)
        if index == 0 { return "below \(Readable.time(2 * from))" }
        if index + 1 == LatencyBuckets.bucketCount { return "from \(Readable.time(from))" }
        return "\(Readable.time(from)) to \(Readable.time(2 * from))"
    }
}
