internal import Postcopy

/// The longest waits, each with what it consisted of.
struct WorstWaits {
    private let waits: [WaitFigures]
    private let time: TimeLine

    /// A screen.
    private static let waitsMax = 10
    /// A wait consists of a handful of parts; what says more is cut.
    private static let partsMax = 16

    init(_ document: ReportDocument) {
        waits = Array((document.flight?.worst ?? []).prefix(Self.waitsMax))
        time = TimeLine(document)
    }

    @MarkupBuilder var markup: Markup {
        Markup("div", ["id": "worst"]) {
            Markup("h3") { "The longest waits" }
            if waits.isEmpty {
                Markup("p", ["class": "absent"]) {
                    "The report names no single wait: waits were not recorded, or there were none."
                }
            } else {
                table
            }
        }
    }

    private var table: Markup {
        Markup(
            "div",
            [
                "class": "scroll", "role": "region", "tabindex": "0",
                "aria-label": "The longest waits",
            ]
        ) {
            Markup("table", ["class": "worst"]) {
                Markup("caption") { "The longest waits, the longest first" }
                Markup("thead") {
                    Markup("tr") {
                        for name in ["Wait", "Why", "Who", "Page", "At", "Parts"] {
                            Markup("th", ["scope": "col"]) { name }
                        }
                    }
                }
                Markup("tbody") { for wait in waits { row(wait) } }
            }
        }
    }

    private func row(_ wait: WaitFigures) -> Markup {
        Markup("tr") {
            Markup("th", ["scope": "row", "class": "number"]) { Readable.time(wait.ns) }
            Markup("td", ["class": "word"]) { wait.reason }
            Markup("td", ["class": "word"]) { who(wait) }
            Markup("td", ["class": "word"]) {
                Markup("bdi") { wait.block }
                " at \(Readable.bytes(wait.offset))"
            }
            Markup("td", ["class": "number"]) {
                Readable.time(wait.atNs.since(time.origin))
            }
            Markup("td", ["class": "parts"]) { parts(wait) }
        }
    }

    @MarkupBuilder private func who(_ wait: WaitFigures) -> Markup {
        if let vcpu = wait.vcpu { "vCPU \(vcpu) " }
        Markup("bdi") { wait.name ?? (wait.vcpu == nil ? "thread \(wait.thread)" : "") }
    }

    @MarkupBuilder private func parts(_ wait: WaitFigures) -> Markup {
        let parts = wait.parts.filter { $0.ns > 0 }.prefix(Self.partsMax)
        let total = max(1, parts.reduce(0) { $0 + Double($1.ns) })
        Markup("span", ["class": "stack", "aria-hidden": "true"]) {
            for part in parts {
                let width = Double(part.ns) / total * 100
                Markup(
                    "span",
                    [
                        "class": "\(CauseLabel(part.cause).place.rawValue)",
                        "style": "width:\(width)%",
                    ]
                ) {}
            }
        }
        parts.sorted { $0.ns > $1.ns }
            .map { "\(CauseLabel($0.cause).name) \(Readable.time($0.ns))" }
            .joined(separator: ", ")
    }
}
