internal import Foundation
internal import Postcopy

/// A report as one page of HTML that needs nothing else: no network, no script, no font.
struct ReportPage {
    let document: ReportDocument
    /// What the report was read from, for its title.
    let name: String

    /// The whole page.
    var html: String {
        "<!doctype html>\n"
            + Markup("html", ["lang": "en"]) {
                Markup("head") { head }
                Markup("body") {
                    Markup("a", ["class": "skip", "href": "#main"]) { "Skip to the report" }
                    header
                    Markup("main", ["id": "main", "tabindex": "-1"]) { sections }
                    footer
                }
            }.html + "\n"
    }

    @MarkupBuilder private var head: Markup {
        Markup(empty: "meta", ["charset": "utf-8"])
        // Nothing may be loaded, and nothing runs.
        Markup(
            empty: "meta",
            [
                "http-equiv": "Content-Security-Policy",
                "content": """
                default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                form-action 'none'
                """,
            ])
        Markup(
            empty: "meta",
            ["name": "viewport", "content": "width=device-width, initial-scale=1"])
        Markup(empty: "meta", ["name": "color-scheme", "content": "light dark"])
        // Without it a browser asks the server for one.
        Markup(empty: "link", ["rel": "icon", "href": "data:,"])
        Markup("title") { "\(document.status): \(name), a postcopy report" }
        Markup("style") { Markup(verbatim: PageStyle.text) }
    }

    private var header: Markup {
        Markup("header") {
            Markup("p", ["class": "kind"]) {
                "postcopy report of "
                Markup("bdi") { name }
            }
            Markup("h1") { Headline(document).sentence }
            Markup("dl", ["class": "key-figures"]) {
                for figure in Headline(document).keyFigures {
                    Markup("div") {
                        Markup("dt") { figure.name }
                        Markup("dd") { figure.value }
                    }
                }
            }
            Markup("nav", ["aria-label": "Sections"]) {
                for section in Section.allCases {
                    Markup("a", ["href": "#\(section.rawValue)"]) { section.title }
                }
            }
        }
    }

    private enum Section: String, CaseIterable {
        case course = "section-course"
        case waits = "section-waits"
        case causes = "section-causes"
        case advice = "section-advice"
        case setting = "section-setting"

        var title: String {
            switch self {
            case .course: "Course"
            case .waits: "Waits"
            case .causes: "Causes"
            case .advice: "What would have helped"
            case .setting: "Machine and options"
            }
        }
    }

    @MarkupBuilder private var sections: Markup {
        section(.course) { PhasesFigure(document).figure.markup }
        section(.waits) {
            figure(
                LatencyFigure(document)?.figure, "Waits for pages",
                "The report says of no wait how long it lasted: nobody waited, or the guest never ran "
                    + "at this destination.")
            figure(
                BlocktimeFigure(document)?.figure, "Blocktime of each vCPU",
                "The report holds no blocktime: that is what the destination counts.")
            figure(
                MapFigure(document, TimeLine(document))?.figure,
                "Where and when pages were missing",
                "The report holds no map of faults and pages: its waits were not recorded.")
        }
        section(.causes) {
            figure(
                document.flight.flatMap { AttributionFigure($0) }?.figure,
                "What the waiting consisted of",
                "The report says nothing of causes: its waits were not recorded, or there were none."
            )
            WorstWaits(document).markup
        }
        section(.advice) { adviceList }
        section(.setting) { Setting(document).markup }
    }

    private func section(
        _ section: Section, @MarkupBuilder _ content: () -> Markup
    ) -> Markup {
        Markup(
            "section",
            ["id": "\(section.rawValue)", "aria-labelledby": "\(section.rawValue)-name"]
        ) {
            Markup("h2", ["id": "\(section.rawValue)-name"]) { section.title }
            content()
        }
    }

    /// The figure, or a sentence that says why there is none.
    @MarkupBuilder private func figure(
        _ figure: Figure?, _ title: String, _ absence: String
    ) -> Markup {
        if let figure {
            figure.markup
        } else {
            Markup("div", ["class": "absent"]) {
                Markup("h3") { title }
                Markup("p") { absence }
            }
        }
    }

    @MarkupBuilder private var adviceList: Markup {
        let advice = AdviceRules(document).advice
        if advice.isEmpty {
            Markup("p", ["class": "absent"]) {
                "Nothing in these figures says that another choice would have helped."
            }
        } else {
            Markup("ol", ["class": "advice"]) {
                for piece in advice {
                    Markup("li") {
                        Markup("h3") { piece.title }
                        Markup("p") { Self.prose(piece.text) }
                        Markup("p", ["class": "basis"]) { "Because: \(piece.basis)." }
                    }
                }
            }
        }
    }

    /// A sentence in which options of the command are set off, and not broken at their hyphens.
    private static func prose(_ text: String) -> Markup {
        let words = text.split(separator: " ").map { word -> Markup in
            guard let start = word.range(of: "--")?.lowerBound else {
                return Markup(text: "\(word) ")
            }
            let end = word[start...].lastIndex { $0.isLetter || $0.isNumber } ?? start
            return Markup("span") {
                String(word[..<start])
                Markup("code") { String(word[start...end]) }
                String(word[word.index(after: end)...]) + " "
            }
        }
        return Markup(words)
    }

    private var footer: Markup {
        Markup("footer") {
            Markup("p") {
                "Written by 'postcopy report' from a report of schema \(document.schema). Times are from "
                    + "CLOCK_MONOTONIC; sizes are powers of 1024."
            }
        }
    }
}
