/// Cells as lines of text, each column as wide as its widest cell.
struct TextColumns {
    enum Side {
        case left
        case right
    }

    private let sides: [Side]
    private let widthsMin: [Int]

    /// - Parameter widthsMin: of the first columns, so that lines of several tables stand in line.
    init(_ sides: [Side], widthsMin: [Int] = []) {
        self.sides = sides
        self.widthsMin = widthsMin + Array(repeating: 0, count: sides.count - widthsMin.count)
    }

    /// - Precondition: every row has one cell for each column.
    func lines(_ rows: [[String]]) -> [String] {
        let widths = sides.indices.map { column in
            max(widthsMin[column], rows.map { $0[column].count }.max() ?? 0)
        }
        return rows.map { row in
            Self.joined(
                sides.indices.map { column in
                    switch sides[column] {
                    case .left: Self.left(row[column], widths[column])
                    case .right: Self.right(row[column], widths[column])
                    }
                })
        }
    }

    /// Cells side by side, without blanks at the end of the line. A column without content takes no room.
    static func joined(_ cells: [String]) -> String {
        trimmed(cells.filter { !$0.isEmpty }.joined(separator: "  "))
    }

    /// A line without the blanks at its end.
    static func trimmed(_ line: String) -> String {
        String(line.reversed().drop { $0 == " " }.reversed())
    }

    static func left(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }
}
