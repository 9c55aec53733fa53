internal import Postcopy

/// Where a machine is to be parked: a folder that is not there yet, and the one beside it in which it is
/// written.
struct ParkPlace: Sendable {
    let path: String
    let parentPath: String
    let name: String

    /// What the folder is called while it is written.
    static let suffix = ".parking"

    var temporaryName: String { name + Self.suffix }
    var temporaryPath: String { path + Self.suffix }

    /// - Throws: `ParkError.badName`.
    init(_ text: String) throws(ParkError) {
        var path = text[...]
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        let slash = path.lastIndex(of: "/")
        let name = slash.map { path[path.index(after: $0)...] } ?? path
        let isNamed = !name.isEmpty && name != "." && name != ".."
        // A path ends for the kernel where a string of C does.
        guard isNamed, !path.utf8.contains(0) else { throw .badName(path: text) }
        self.path = String(path)
        self.name = String(name)
        parentPath = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    }
}
