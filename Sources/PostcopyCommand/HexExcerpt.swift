/// Bytes around the place at which a channel is wrong.
enum HexExcerpt {
    private static let rowBytes = 16
    private static let rowsBefore = 1
    private static let rowsBehind = 1

    /// Lines of an offset, 16 bytes and their text, with a mark below the byte at `position`.
    ///
    /// - Parameter first: where the first of `bytes` stands in its channel.
    static func lines(
        of bytes: some RandomAccessCollection<UInt8>, from first: UInt64, markAt position: UInt64
    ) -> [String] {
        let row = UInt64(rowBytes)
        let marked = position / row * row
        var lines: [String] = []
        let begin = marked - min(marked, UInt64(rowsBefore) * row)
        for start in stride(from: begin, through: marked + UInt64(rowsBehind) * row, by: rowBytes) {
            let cells = (0..<row).map { byte(at: start + $0, in: bytes, from: first) }
            if cells.contains(where: { $0 != nil }) {
                lines.append("0x" + String(start, radix: 16) + "  " + text(of: cells))
            }
            if start == marked {
                let label = "0x" + String(start, radix: 16) + "  "
                if cells.allSatisfy({ $0 == nil }) { lines.append(label) }
                let column = label.count + Int(position - marked) * 3
                lines.append(String(repeating: " ", count: column) + "^^")
            }
        }
        return lines
    }

    private static func byte(
        at place: UInt64, in bytes: some RandomAccessCollection<UInt8>, from first: UInt64
    ) -> UInt8? {
        guard place >= first, place - first < UInt64(bytes.count) else { return nil }
        return bytes[bytes.index(bytes.startIndex, offsetBy: Int(place - first))]
    }

    private static func text(of cells: [UInt8?]) -> String {
        let hex = cells.map { byte in
            byte.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) } ?? "  "
        }
        let plain = cells.map { byte in
            byte.map { (0x20...0x7e).contains($0) ? String(UnicodeScalar($0)) : "." } ?? " "
        }
        let line = hex.joined(separator: " ") + "  " + plain.joined()
        return TextColumns.trimmed(line)
    }
}
