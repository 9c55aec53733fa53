import CoreMetrics
import LinuxKernel
import Postcopy
import TestSupport
import Testing

@testable import PostcopyCommand

/// The text that a monitoring system reads.
@Suite struct MetricsTextTests {
    @Test("each kind of metric is written as OpenMetrics wants it")
    func kinds() {
        let registry = MetricsRegistry()
        registry.makeCounter(label: "a_total", dimensions: [("b", "1"), ("a", "2")])
            .increment(by: 3)
        registry.makeCounter(label: "plain", dimensions: []).increment(by: 1)
        registry.makeFloatingPointCounter(label: "f_total", dimensions: []).increment(by: 0.25)
        registry.makeRecorder(label: "g", dimensions: [], aggregate: false).record(1.5)
        registry.makeRecorder(label: "h", dimensions: [], aggregate: false).record(Int64(7))
        #expect(
            registry.text == """
                # TYPE a counter
                a_total{a="2",b="1"} 3
                # TYPE f counter
                f_total 0.25
                # TYPE g gauge
                g 1.5
                # TYPE h gauge
                h 7
                # TYPE plain counter
                plain_total 1
                # EOF

                """)
    }

    @Test("every metric of a migration has its kind, its help, and the unit that its name ends in")
    func migration() {
        for metric in MigrationMetric.allCases {
            let label = metric.rawValue
            #expect(label.hasSuffix("_total") == (metric.kind == .counter))
            #expect(metric.help.hasSuffix(".") && !metric.help.contains("\n"))
            let family = MetricFamily(label: label, kind: metric.kind)
            #expect(family.lines.contains("# HELP \(family.name) \(metric.help)"))
            if let unit = metric.unit {
                #expect(family.name.hasSuffix("_\(unit)"))
                #expect(family.lines.contains("# UNIT \(family.name) \(unit)"))
            } else {
                #expect(!["bytes", "seconds"].contains { family.name.hasSuffix("_\($0)") })
            }
        }
    }

    @Test("waits are counted up to each bound, and the last bucket has all of them")
    func histogram() {
        let registry = MetricsRegistry()
        let recorder = registry.makeRecorder(
            label: "w", dimensions: [("side", "x")], aggregate: true)
        for microseconds in [1.0, 3, 3, 1e9] { recorder.record(microseconds / 1e6) }
        let lines = registry.text.split(separator: "\n").map(String.init)
        let buckets = lines.filter { $0.hasPrefix("w_bucket{side=\"x\",le=") }
        let counts = buckets.compactMap { Int($0.split(separator: " ")[1]) }
        #expect(counts.count == LatencyBuckets.bucketCount && counts == counts.sorted())
        #expect(buckets.first == "w_bucket{side=\"x\",le=\"2e-06\"} 1")
        #expect(buckets[1] == "w_bucket{side=\"x\",le=\"4e-06\"} 3")
        #expect(buckets.last == "w_bucket{side=\"x\",le=\"+Inf\"} 4")
        #expect(lines.contains("w_count{side=\"x\"} 4"))
        #expect(lines.contains("w_sum{side=\"x\"} 1000.000007"))
    }

    @Test("labels and names of any content stay within their line and quotes")
    func escaping() {
        let registry = MetricsRegistry()
        registry.makeCounter(label: "1 b\"\n", dimensions: [("x-y", "a\\b\"c\r\nd")])
            .increment(by: 1)
        #expect(
            registry.text == """
                # TYPE _1_b__ counter
                _1_b___total{x_y="a\\\\b\\"c\r\\nd"} 1
                # EOF

                """)
    }

    @Test("one name and one set of labels is one number, and a second kind does not disturb it")
    func same() {
        let registry = MetricsRegistry()
        for _ in 0..<2 {
            registry.makeCounter(label: "a_total", dimensions: [("x", "1")]).increment(by: 2)
        }
        registry.makeRecorder(label: "a_total", dimensions: [("x", "1")], aggregate: false)
            .record(9.0)
        #expect(registry.text == "# TYPE a counter\na_total{x=\"1\"} 4\n# EOF\n")
    }
}

/// What is asked by HTTP.
@Suite struct MetricsRequestTests {
    private static let whole = Array("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n".utf8)

    @Test("a request counts once its head is here whole", arguments: 0..<whole.count)
    func prefixes(length: Int) {
        #expect(MetricsRequest(reading: Array(Self.whole.prefix(length))) == nil)
    }

    @Test(
        "requests are told apart",
        arguments: [
            ("GET /metrics HTTP/1.1\r\n\r\n", MetricsRequest.metrics(isHeadOnly: false), "200"),
            ("GET /metrics HTTP/1.0\n\n", .metrics(isHeadOnly: false), "200"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", .metrics(isHeadOnly: true), "200"),
            ("GET / HTTP/1.1\r\n\r\n", .elsewhere, "404"),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", .elsewhere, "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", .otherMethod, "405"),
            ("nonsense\r\n\r\n", .malformed, "400"),
            ("GET /metrics SSH-2.0\r\n\r\n", .malformed, "400"),
            (" /metrics HTTP/1.1\r\n\r\n", .malformed, "400"),
            (String(repeating: "x", count: 8193), .tooLong, "431"),
        ] as [(String, MetricsRequest, String)])
    func kinds(text: String, request: MetricsRequest, status: String) throws {
        #expect(MetricsRequest(reading: Array(text.utf8)) == request)
        let answer = String(decoding: request.answer { "body\n" }, as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 \(status) ") && answer.contains("\r\n\r\n"))
        #expect(answer.hasSuffix("\r\n\r\nbody\n") == (request == .metrics(isHeadOnly: false)))
    }
}

/// Who shows the text.
@Suite(.timeLimit(.minutes(1))) struct MetricsServerTests {
    private static func ask(_ text: String, at address: ChannelAddress) throws -> String {
        let socket = try StreamSocket.connect(to: address)
        try socket.send(Array(text.utf8).span)
        return try rest(of: socket)
    }

    private static func rest(of socket: borrowing StreamSocket) throws -> String {
        socket.limitReceives(nanoseconds: 20_000_000_000)
        var buffer = ReceiveBuffer(capacityBytes: 1 << 22)
        while try buffer.fill(from: socket, wait: true) != 0 {}
        return String(decoding: buffer.bytes, as: UTF8.self)
    }

    private static func server(_ text: String = "# EOF\n") throws -> MetricsServer {
        try MetricsServer(at: .tcp(host: "127.0.0.1", port: 0)) { text }
    }

    @Test("a text longer than any socket's room arrives whole")
    func long() throws {
        let text = String(repeating: "x", count: 3 << 20)
        let server = try Self.server(text)
        defer { server.end() }
        let answer = try Self.ask("GET /metrics HTTP/1.1\r\n\r\n", at: server.address)
        #expect(answer.hasSuffix("\r\n\r\n" + text))
    }

    @Test("who says nothing keeps nobody out, and makes room for others")
    func silent() throws {
        let server = try Self.server()
        defer { server.end() }
        let first = try StreamSocket.connect(to: server.address)
        for _ in 0..<MetricsServer.visitorsMax + 1 {
            let other = try StreamSocket.connect(to: server.address)
            try other.send(Array("GET".utf8).span)
            let answer = try Self.ask("GET /metrics HTTP/1.1\r\n\r\n", at: server.address)
            #expect(answer.hasSuffix("# EOF\n"))
        }
        // In its place, or after its two seconds.
        #expect(try Self.rest(of: first).isEmpty)
    }

    @Test("an address in use is refused, and free again at the end")
    func inUse() throws {
        let server = try Self.server()
        #expect(throws: ChannelError.self) { _ = try MetricsServer(at: server.address) { "" } }
        server.end()
        try MetricsServer(at: server.address) { "" }.end()
    }
}
