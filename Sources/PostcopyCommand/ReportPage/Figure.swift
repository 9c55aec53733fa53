/// A drawing with its name, what it says in a sentence, and its data as a table for those who do not
/// see it or want the numbers.
struct Figure {
    /// Of this page's own making: a part of identifiers.
    let id: String
    let title: String
    let summary: String
    var legend: [LegendEntry] = []
    let table: DataTable
    /// Draws it for a width.
    let draw: (inout Canvas) -> Void

    struct LegendEntry {
        /// Of the style sheet.
        let kind: String
        let text: String
    }

    var markup: Markup {
        Markup("figure", ["id": "\(id)", "aria-labelledby": "\(id)-name"]) {
            Markup("h3", ["id": "\(id)-name"]) { title }
            Markup("p", ["class": "summary"]) { summary }
            Markup(Canvas.Width.allCases.map(drawing))
            if !legend.isEmpty { legendMarkup }
            Markup("details") {
                Markup("summary") { "\(title): the data as a table" }
                table.markup
            }
        }
    }

    private func drawing(_ width: Canvas.Width) -> Markup {
        var canvas = Canvas(width)
        draw(&canvas)
        let name = canvas.isNarrow ? "narrow" : "wide"
        return Markup(
            "svg",
            [
                "class": "chart \(name)", "role": "img",
                "aria-labelledby": "\(id)-\(name)-title \(id)-\(name)-desc",
                "viewBox": "0 0 \(width.rawValue) \(canvas.height)",
            ]
        ) {
            Markup("title", ["id": "\(id)-\(name)-title"]) { title }
            Markup("desc", ["id": "\(id)-\(name)-desc"]) {
                "\(summary) The table below has the data."
            }
            Markup(canvas.marks)
        }
    }

    private var legendMarkup: Markup {
        Markup("ul", ["class": "legend"]) {
            for entry in legend {
                Markup("li") {
                    Markup("span", ["class": "swatch \(entry.kind)", "aria-hidden": "true"]) {}
                    entry.text
                }
            }
        }
    }
}

/// Rows of texts below a head.
struct DataTable {
    let caption: String
    let head: [String]
    let rows: [[String]]
    /// Columns of words; the others are numbers, and stand at the right.
    var words: Set<Int> = [0]

    /// Ten screens: who wants more reads the JSON.
    static let rowsMax = 200

    var markup: Markup {
        Markup(
            "div",
            ["class": "scroll", "role": "region", "tabindex": "0", "aria-label": "\(caption)"]
        ) {
            Markup("table") {
                Markup("caption") { rows.count > Self.rowsMax ? cutCaption : caption }
                Markup("thead") { Markup("tr") { headCells } }
                Markup("tbody") {
                    for row in rows.prefix(Self.rowsMax) { Markup("tr") { rowCells(row) } }
                }
            }
        }
    }

    private var cutCaption: String {
        "\(caption) (the first \(Self.rowsMax) of \(rows.count) rows; the report has them all)"
    }

    @MarkupBuilder private func rowCells(_ row: [String]) -> Markup {
        Markup("th", ["scope": "row", "class": words.contains(0) ? "word" : "number"]) {
            row.first ?? ""
        }
        for (index, text) in row.enumerated().dropFirst() {
            Markup("td", ["class": words.contains(index) ? "word" : "number"]) { text }
        }
    }

    @MarkupBuilder private var headCells: Markup {
        for (index, text) in head.enumerated() {
            Markup("th", ["scope": "col", "class": words.contains(index) ? "word" : "number"]) {
                text
            }
        }
    }
}
