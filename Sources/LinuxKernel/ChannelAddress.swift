/// Where a migration goes to or listens: `tcp:HOST:PORT` or `unix:PATH`, as QEMU writes it.
public enum ChannelAddress: Equatable, Sendable, CustomStringConvertible {
    /// IPv6 addresses are kept without brackets. Port 0 lets the system choose when listening.
    case tcp(host: String, port: UInt16)
    /// A socket in this host's file system; the path has at most `unixPathBytesMax` bytes.
    case unix(path: String)

    /// `sun_path` holds 108 bytes with the closing NUL.
    public static let unixPathBytesMax = 107

    /// Why a text is no address.
    public struct ParseError: Error, Equatable, Sendable, CustomStringConvertible {
        /// What was to be an address.
        public let text: String
        /// Why it is none, and what one looks like.
        public let reason: String

        public var description: String {
            "'\(text)' is no migration URI: \(reason); "
                + "write tcp:HOST:PORT, tcp:[IPV6]:PORT or unix:PATH"
        }
    }

    /// The address that `tcp:HOST:PORT`, `tcp:[HOST]:PORT` or `unix:PATH` names.
    public init(parsing text: String) throws(ParseError) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard !path.isEmpty, !path.utf8.contains(0) else {
                throw ParseError(text: text, reason: "the path is missing")
            }
            guard path.utf8.count <= Self.unixPathBytesMax else {
                throw ParseError(
                    text: text, reason: "the path is over \(Self.unixPathBytesMax) bytes")
            }
            self = .unix(path: path)
            return
        }
        guard text.hasPrefix("tcp:") else {
            throw ParseError(text: text, reason: "it begins with neither tcp: nor unix:")
        }
        let rest = text.dropFirst(4)
        guard let colon = rest.lastIndex(of: ":") else {
            throw ParseError(text: text, reason: "the port is missing")
        }
        var host = rest[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw ParseError(text: text, reason: "an IPv6 address stands in brackets")
        }
        let digits = rest[rest.index(after: colon)...]
        guard digits.allSatisfy(\.isASCII), digits.allSatisfy(\.isNumber),
            let port = UInt16(digits)
        else {
            throw ParseError(text: text, reason: "the port is no number from 0 to 65535")
        }
        guard !host.isEmpty else { throw ParseError(text: text, reason: "the host is missing") }
        self = .tcp(host: String(host), port: port)
    }

    public var description: String {
        switch self {
        case .tcp(let host, let port):
            host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}

/// Why an address cannot be listened on or connected to.
public struct ChannelError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What kept it from being done.
    public enum Cause: Equatable, Sendable {
        /// The resolver knows no such host, and says why.
        case unknownHost(String)
        /// What the kernel answered.
        case kernel(Errno)
    }

    /// What was to be done.
    public enum Operation: String, Sendable {
        /// Waiting for others to connect.
        case listen = "listening on"
        /// Reaching who listens.
        case connect = "connecting to"
        /// Taking in who has connected.
        case accept = "accepting on"
    }

    /// What was to be done.
    public let operation: Operation
    /// Where.
    public let address: ChannelAddress
    /// Why it was not.
    public let cause: Cause

    public var description: String {
        switch cause {
        case .unknownHost(let reason): "\(operation.rawValue) \(address): \(reason)"
        case .kernel(let error): "\(operation.rawValue) \(address): \(error)\(advice(for: error))"
        }
    }

    private func advice(for error: Errno) -> String {
        switch (operation, error) {
        case (.listen, .addressInUse): "; choose another address, or port 0 for a free one"
        case (.listen, .accessDenied):
            "; choose a port above 1023 or a folder that you may write to"
        case (.connect, .connectionRefused), (.connect, .noEntry):
            "; start 'postcopy receive' there first"
        case (.connect, .timedOut): "; check the route and the firewall"
        default: ""
        }
    }
}
