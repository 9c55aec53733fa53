internal import Postcopy

/// What happened, in a sentence and in the few figures that matter most.
struct Headline {
    private let document: ReportDocument

    init(_ document: ReportDocument) { self.document = document }

    var sentence: String {
        guard document.isSuccess else { return Self.capitalized(document.failureLine) + "." }
        var text = "The migration completed"
        if let total = document.totalTimeNs { text += " in \(Readable.time(total))" }
        if let downtime = document.downtimeNs {
            text += "; the guest stopped for \(Readable.time(downtime))"
        }
        if let blocked { text += " and its vCPUs waited \(Readable.time(blocked)) for pages" }
        return text + "."
    }

    /// By all vCPUs together.
    private var blocked: UInt64? {
        document.postcopyVcpuBlocktimeNs.map { $0.reduce(0) { $0.adding($1) } }
    }

    private static func capitalized(_ text: String) -> String {
        text.prefix(1).uppercased() + text.dropFirst()
    }

    struct KeyFigure {
        let name: String
        let value: String
    }

    var keyFigures: [KeyFigure] {
        let rows: [(String, String?)] = [
            ("Status", document.status),
            ("Total time", document.totalTimeNs.map(Readable.time)),
            ("Downtime", document.downtimeNs.map(Readable.time)),
            ("Sent", document.ram.transferred.map(Readable.bytes)),
            ("vCPUs blocked, in all", blocked.map { Readable.time($0) }),
            ("vCPUs blocked at once", document.postcopyBlocktimeNs.map(Readable.time)),
            ("Longest wait", document.postcopyLatencyNs.map { Readable.time($0.max) }),
            ("Verified", verified),
        ]
        return rows.compactMap { name, value in value.map { KeyFigure(name: name, value: $0) } }
    }

    private var verified: String? {
        if document.isOpaque { return nil }
        guard let verify = document.verify else {
            return document.isVerifiedElsewhere ? "at the destination" : "no"
        }
        let pages = Readable.count(UInt64(clamping: verify.pages), "page", "pages")
        return verify.isClean ? "\(pages)" : "\(verify.mismatches) of \(pages) wrong"
    }
}
