/// The checks as people read them.
struct DoctorTable {
    let document: DoctorDocument
    let hasColors: Bool

    /// Below this names and findings do not fit side by side.
    private static let columnsMin = 60

    /// Lines of at most `columns` characters, as far as a single word fits.
    func text(columns: Int) -> String {
        let width = max(1, columns)
        let lines = document.checks.flatMap { self.lines($0, width) } + [""]
        let end = WrappedText.whole(document.summary, columns: width)
        return (lines + end).map { "\($0)\n" }.joined()
    }

    private static let stateWidth = DoctorCheck.State.allCases.map(\.rawValue.count).max() ?? 0
    private static let nameWidth = DoctorCheck.Name.allCases.map(\.rawValue.count).max() ?? 0

    private func lines(_ check: DoctorCheck, _ columns: Int) -> [String] {
        let isWide = columns >= Self.columnsMin
        let indent = isWide ? Self.stateWidth + Self.nameWidth + 4 : 2
        let width = max(1, columns - indent)
        var body = WrappedText.whole(check.finding, columns: width)
        if let lost = check.lost { body += WrappedText.whole("lost: \(lost)", columns: width) }
        if let remedy = check.remedy {
            body += WrappedText.whole("remedy: \(remedy)", columns: width)
        }
        // Whoever pastes a command takes its lines whole.
        if let command = check.command {
            body += WrappedText.whole(command, columns: width, end: " \\")
        }
        let margin = String(repeating: " ", count: indent)
        let (state, name) = (check.state.rawValue, check.name.rawValue)
        guard isWide else {
            var head = WrappedText.whole("\(state) \(name)", columns: columns)
            head[0] = coloured(state, check.state) + head[0].dropFirst(state.count)
            return head + body.map { margin + $0 }
        }
        let first = coloured(TextColumns.left(state, Self.stateWidth), check.state)
        return body.enumerated().map { index, line in
            index == 0
                ? "\(first)  \(TextColumns.left(name, Self.nameWidth))  \(line)" : margin + line
        }
    }

    private func coloured(_ text: String, _ state: DoctorCheck.State) -> String {
        guard hasColors else { return text }
        let colour =
            switch state {
            case .ok: 32
            case .degraded: 33
            case .missing: 31
            }
        return "\u{1B}[\(colour)m\(text)\u{1B}[0m"
    }
}
