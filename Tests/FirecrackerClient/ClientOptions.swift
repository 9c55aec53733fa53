/// `firecracker-client SOCKET [options]`: what the look-alike shall do.
struct ClientOptions {
    /// How the size of a region's pages is told, by the version that is played.
    enum PageField: String {
        /// Up to 1.6.
        case none
        /// 1.7 to 1.9: bytes, under a name that says otherwise.
        case older
        /// Since 1.10.
        case both
        /// What is to be once the older field is gone.
        case newer
        /// As the older field's name is read by somebody who takes it at its word.
        case kibibytes
    }

    /// What it does with its own copy of the userfaultfd.
    enum OwnCopy {
        case kept
        case closed
        /// Reading it waits for events, once the memory is served.
        case blocking
    }

    var socket = ""
    var regions: [RegionShape] = []
    var seed: UInt64 = 1
    var threads = 2
    /// How many ranges a balloon takes while pages are touched.
    var balloon = 0
    var pageField = PageField.both
    /// Touches half of the pages, says so, and the rest only once standard input has a line, or ends.
    var holds = false
    /// Its own copy of the userfaultfd, which Firecracker keeps as it is.
    var own = OwnCopy.kept
    /// What it says that its pages are; the truth where it says nothing.
    var saidPageBytes: UInt64?
    /// The page of each region that is there before the hand-off.
    var presentPage: Int?

    init(parsing arguments: [String]) {
        var rest = arguments[...]
        socket = rest.popFirst() ?? ""
        while let option = rest.popFirst() {
            switch option {
            case "--hold": holds = true
            case "--close-own": own = .closed
            case "--blocking": own = .blocking
            default: take(option, rest.popFirst() ?? "")
            }
        }
        precondition(!socket.isEmpty && !regions.isEmpty, "a socket, and at least one --region")
    }

    private mutating func take(_ option: String, _ value: String) {
        switch (option, UInt64(value)) {
        case ("--region", _): regions.append(RegionShape(parsing: value))
        case ("--seed", .some(let number)): seed = number
        case ("--threads", .some(let number)): threads = Int(number)
        case ("--balloon", .some(let number)): balloon = Int(number)
        case ("--say-pages", .some(let number)): saidPageBytes = number
        case ("--present", .some(let number)): presentPage = Int(number)
        case ("--page-field", _): pageField = PageField(rawValue: value)!
        default: fatalError("no option '\(option) \(value)'")
        }
    }
}

/// A region that is to be made: `KIND:BYTES:OFFSET`.
struct RegionShape {
    enum Kind: String {
        case anonymous
        case huge
        /// Of a memfd, as where a device of another process maps it too.
        case shared
    }

    let kind: Kind
    let lengthBytes: UInt64
    let offset: UInt64

    init(parsing text: String) {
        let parts = text.split(separator: ":")
        guard parts.count == 3, let kind = Kind(rawValue: String(parts[0])),
            let length = UInt64(parts[1]), let offset = UInt64(parts[2])
        else { fatalError("'\(text)' is no KIND:BYTES:OFFSET") }
        (self.kind, lengthBytes, self.offset) = (kind, length, offset)
    }

    var pageBytes: UInt64 { kind == .huge ? 2 << 20 : 4096 }
}
