/// A peer's names, fit for a terminal and a log.
package enum PeerText {
    /// Control characters are shown as their code.
    package static func plain(_ name: String) -> String {
        var text = ""
        for scalar in name.unicodeScalars {
            if scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) {
                text += "\\u{\(String(scalar.value, radix: 16))}"
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    package static func quoted(_ name: String) -> String { "'\(plain(name))'" }
}
