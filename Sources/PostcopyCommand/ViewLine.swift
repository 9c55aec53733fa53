/// What a terminal can show.
struct ViewStyle: Equatable, Sendable {
    /// `NO_COLOR` (no-color.org) turns them off.
    var hasColors: Bool
    /// Whether more than ASCII can be read there.
    var isUnicode: Bool

    /// - Parameter environment: of the process; the first locale that is set is the one that counts.
    init(environment: [String: String]) {
        hasColors = environment["NO_COLOR"]?.isEmpty != false
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].lazy
            .compactMap { environment[$0] }.first { !$0.isEmpty }
        let charset = (locale ?? "").uppercased()
        isUnicode = charset.contains("UTF-8") || charset.contains("UTF8")
    }

    init(hasColors: Bool, isUnicode: Bool) {
        self.hasColors = hasColors
        self.isUnicode = isUnicode
    }
}

/// One line of the live view, in pieces of one colour each.
struct ViewLine: Equatable, Sendable {
    /// There are only these, of the sixteen that every terminal has and its user has chosen.
    enum Color: String, Sendable {
        case phase = "1"
        case warning = "1;33"
    }

    struct Piece: Equatable, Sendable {
        var text: String
        var color: Color?
    }

    private(set) var pieces: [Piece] = []
    /// Columns that it takes.
    private(set) var width = 0
    /// Columns that it may take.
    let room: Int

    init(room: Int) { self.room = room }

    var text: String { pieces.map(\.text).joined() }

    /// Adds what there is room for of a text, whatever characters are in it.
    mutating func add(_ text: String, _ color: Color? = nil, in style: ViewStyle) {
        var piece = ""
        for character in text {
            let (shown, columns) = Self.shown(character, in: style)
            guard width + columns <= room else { break }
            piece += shown
            width += columns
        }
        if !piece.isEmpty { pieces.append(Piece(text: piece, color: color)) }
    }

    /// As it goes to the terminal.
    func rendered(in style: ViewStyle) -> String {
        pieces.map { piece in
            guard style.hasColors, let color = piece.color else { return piece.text }
            return "\u{1B}[\(color.rawValue)m\(piece.text)\u{1B}[m"
        }.joined()
    }

    /// The columns that a text takes.
    static func width(of text: String, in style: ViewStyle) -> Int {
        text.reduce(0) { $0 + shown($1, in: style).columns }
    }

    /// A character as it is shown, and its columns. One that a name brought along and that would move
    /// the cursor, or turn the text around, is shown as `?`, and so is one of which terminals do not
    /// agree how wide it is.
    private static func shown(
        _ character: Character, in style: ViewStyle
    ) -> (text: String, columns: Int) {
        guard let scalar = character.unicodeScalars.first, character.unicodeScalars.count == 1
        else { return ("?", 1) }
        switch scalar.value {
        case 0x20..<0x7F: return (String(character), 1)
        // Letters of Latin, Greek and Cyrillic; lines and blocks.
        case 0xA1..<0xAD, 0xAE..<0x300, 0x370..<0x483, 0x48A..<0x530, 0x2500..<0x25A0:
            return style.isUnicode ? (String(character), 1) : ("?", 1)
        default: return ("?", 1)
        }
    }
}
