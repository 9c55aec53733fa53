/// A table that becomes a list where there is no room for its columns.
struct FittedTable {
    /// What stands above each column; the first names the rows.
    let header: [String]
    let rows: [[String]]
    /// Of each column; the first on the left and the others on the right where nothing is said.
    var sides: [TextColumns.Side]?

    static let margin = "  "

    /// Lines of at most `columns` characters.
    /// - Precondition: every row has as many cells as the header.
    func lines(columns: Int) -> [String] {
        guard !rows.isEmpty else { return [] }
        let sides = sides ?? header.indices.map { $0 == 0 ? .left : .right }
        let lines = TextColumns(sides).lines([header] + rows).map { Self.margin + $0 }
        guard lines.contains(where: { $0.count > columns }) else {
            return lines.map(TextColumns.trimmed)
        }
        return rows.flatMap { row in
            let values = zip(header, row).dropFirst().filter { !$0.1.isEmpty }
            return WrappedText.lines(row[0], columns: columns, margin: Self.margin)
                + values.flatMap {
                    WrappedText.lines(
                        "\($0.0) \($0.1)", columns: columns, margin: Self.margin + Self.margin)
                }
        }
    }
}
