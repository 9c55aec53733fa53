/// A table that becomes a list where there is no room for its columns.
struct FittedTable {
    /// What stands above each column; the first names the rows.
    let header: [String]
    let rows: [[String]]

    static let margin = "  "

    /// Lines of at most `columns` characters.
    /// - Precondition: every row has as many cells as the header.
    func lines(columns: Int) -> [String] {
        guard !rows.isEmpty else { return [] }
        let sides = header.indices.map { $0 == 0 ? TextColumns.Side.left : .right }
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

/// Words in lines of a certain width.
enum WrappedText {
    /// Breaks between words, and inside one that has no line of its own.
    static func lines(_ text: String, columns: Int, margin: String) -> [String] {
        let width = max(1, columns - margin.count)
        var lines: [String] = []
        for word in text.split(separator: " ") {
            if let last = lines.last, last.count + 1 + word.count <= width {
                lines[lines.count - 1] = "\(last) \(word)"
                continue
            }
            var rest = word
            while rest.count > width {
                lines.append(String(rest.prefix(width)))
                rest = rest.dropFirst(width)
            }
            if !rest.isEmpty { lines.append(String(rest)) }
        }
        return lines.map { margin + $0 }
    }
}
