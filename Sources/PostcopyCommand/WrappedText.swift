/// Words in lines of a certain width.
enum WrappedText {
    /// Breaks between words, and inside one that has no line of its own.
    static func lines(_ text: String, columns: Int, margin: String) -> [String] {
        let width = max(1, columns - margin.count)
        return whole(text, columns: width).flatMap { line in
            var pieces: [Substring] = []
            var rest = line[...]
            while rest.count > width {
                pieces.append(rest.prefix(width))
                rest = rest.dropFirst(width)
            }
            return pieces + [rest]
        }.map { margin + $0 }
    }

    /// Breaks between words only; a longer one has a line for itself.
    /// - Parameter end: of each line but the last.
    static func whole(_ text: String, columns: Int, end: String = "") -> [String] {
        var lines: [String] = []
        let words = text.split(separator: " ")
        for (index, word) in words.enumerated() {
            let reserve = index + 1 < words.count ? end.count : 0
            if let last = lines.last, last.count + 1 + word.count + reserve <= columns {
                lines[lines.count - 1] = "\(last) \(word)"
            } else {
                lines.append(String(word))
            }
        }
        return lines.enumerated().map { index, line in
            index + 1 < lines.count ? line + end : line
        }
    }
}
