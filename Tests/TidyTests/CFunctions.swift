/// Where a C function stands and how long it is, from its signature to its closing brace.
struct CFunction: Equatable {
    let name: String
    let firstLine: Int
    let lines: Int
}

/// The functions defined in C code whose comments and strings are already blank.
///
/// Found by matching braces: at the top level, a brace behind a parenthesis opens a function, and
/// any other opens a type or an initializer. Preprocessor lines are passed over.
func cFunctions(in code: String) -> [CFunction] {
    var found: [CFunction] = []
    var depth = 0
    var header = ""
    var headerLine = 1
    var isFunction = false
    var continuesDirective = false
    let lines = code.split(separator: "\n", omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() {
        let isDirective = continuesDirective || line.first { !$0.isWhitespace } == "#"
        continuesDirective = isDirective && line.hasSuffix("\\")
        if isDirective { continue }
        for character in line {
            switch character {
            case "{":
                if depth == 0 { isFunction = header.last { !$0.isWhitespace } == ")" }
                depth += 1
            case "}":
                depth -= 1
                guard depth == 0 else { continue }
                if isFunction {
                    let name = header.prefix { $0 != "(" }.words.last ?? "?"
                    let length = index + 2 - headerLine
                    found.append(CFunction(name: name, firstLine: headerLine, lines: length))
                }
                header = ""
            case ";" where depth == 0:
                header = ""
            default:
                guard depth == 0 else { continue }
                if header.isEmpty {
                    if character.isWhitespace { continue }
                    headerLine = index + 1
                }
                header.append(character)
            }
        }
        if !header.isEmpty { header.append(" ") }
    }
    return found
}
