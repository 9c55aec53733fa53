/// A peer's names, fit for a terminal and a log.
package enum PeerText {
    /// What is no character to be seen, and could move or reorder others, is shown as its code.
    package static func plain(_ name: String) -> String {
        var text = ""
        for scalar in name.unicodeScalars {
            if isInvisible(scalar) {
                text += "\\u{\(String(scalar.value, radix: 16))}"
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }

    package static func quoted(_ name: String) -> String { "'\(plain(name))'" }
}
