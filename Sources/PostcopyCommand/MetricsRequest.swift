/// What somebody asks for, as far as it matters: the first line of a request that is here whole.
enum MetricsRequest: Equatable {
    case metrics(isHeadOnly: Bool)
    case elsewhere
    case otherMethod
    case malformed
    case tooLong

    /// Longer than any scraper's; what is longer is refused.
    static let bytesMax = 8192
    static let path = "/metrics"

    /// `nil`: more has to come.
    init?(reading bytes: [UInt8]) {
        let end = Self.end(of: bytes)
        guard let end, end <= Self.bytesMax else {
            guard bytes.count > Self.bytesMax else { return nil }
            self = .tooLong
            return
        }
        let line = bytes.prefix { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\n") }
        let words = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
        guard words.count == 3, words[2].hasPrefix("HTTP/1."), !words[0].isEmpty else {
            self = .malformed
            return
        }
        let place = words[1].prefix { $0 != "?" }
        switch words[0] {
        case _ where place != Self.path: self = .elsewhere
        case "GET": self = .metrics(isHeadOnly: false)
        case "HEAD": self = .metrics(isHeadOnly: true)
        default: self = .otherMethod
        }
    }

    /// Where the empty line ends that ends the request's head.
    private static func end(of bytes: [UInt8]) -> Int? {
        var lineLength = 0
        for (place, byte) in bytes.enumerated() {
            switch byte {
            case UInt8(ascii: "\n"):
                if lineLength == 0, place > 1 { return place + 1 }
                lineLength = 0
            case UInt8(ascii: "\r"): break
            default: lineLength += 1
            }
        }
        return nil
    }

    /// The whole answer.
    func answer(_ text: () -> String) -> [UInt8] {
        let plain = "text/plain; charset=utf-8"
        switch self {
        case .metrics(let isHeadOnly):
            let type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
            return Self.answer("200 OK", type, text(), isHeadOnly: isHeadOnly)
        case .elsewhere:
            return Self.answer("404 Not Found", plain, "only \(Self.path) is here\n")
        case .otherMethod:
            return Self.answer(
                "405 Method Not Allowed", plain, "only GET is answered\n",
                extra: "Allow: GET, HEAD\r\n")
        case .malformed:
            return Self.answer("400 Bad Request", plain, "this is no HTTP/1.1 request\n")
        case .tooLong:
            return Self.answer(
                "431 Request Header Fields Too Large", plain,
                "a request has at most \(Self.bytesMax) bytes\n")
        }
    }

    private static func answer(
        _ status: String, _ type: String, _ body: String, extra: String = "",
        isHeadOnly: Bool = false
    ) -> [UInt8] {
        let head =
            "HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n"
            + "Cache-Control: no-store\r\n\(extra)Connection: close\r\n\r\n"
        return Array(head.utf8) + (isHeadOnly ? [] : Array(body.utf8))
    }
}
