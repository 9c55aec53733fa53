import LinuxKernel
import Testing

@Suite("ChannelAddress")
struct ChannelAddressTests {
    @Test(
        "what it parses it writes again",
        arguments: [
            ("tcp:127.0.0.1:4444", .tcp(host: "127.0.0.1", port: 4444)),
            ("tcp:localhost:0", .tcp(host: "localhost", port: 0)),
            ("tcp:host.example:65535", .tcp(host: "host.example", port: 65535)),
            ("tcp:[::1]:80", .tcp(host: "::1", port: 80)),
            ("tcp:[fe80::1%eth0]:1", .tcp(host: "fe80::1%eth0", port: 1)),
            ("unix:/run/a.sock", .unix(path: "/run/a.sock")),
            ("unix:relative", .unix(path: "relative")),
            ("unix:tcp:a:1", .unix(path: "tcp:a:1")),
            ("unix:/tmp/with:colon and space", .unix(path: "/tmp/with:colon and space")),
        ] as [(String, ChannelAddress)])
    func parses(text: String, address: ChannelAddress) throws {
        #expect(try ChannelAddress(parsing: text) == address)
        #expect(address.description == text)
    }

    @Test("brackets and leading zeros are accepted and not kept")
    func normalized() throws {
        let name = try ChannelAddress(parsing: "tcp:[localhost]:0080")
        #expect(name == .tcp(host: "localhost", port: 80))
    }

    @Test(
        "what is no address is refused with its reason",
        arguments: [
            ("", "neither tcp: nor unix:"), ("tcp", "neither tcp: nor unix:"),
            ("TCP:a:1", "neither tcp: nor unix:"), ("http:a:1", "neither tcp: nor unix:"),
            (" unix:/a", "neither tcp: nor unix:"), ("exec:cat", "neither tcp: nor unix:"),
            ("unix:", "the path is missing"), ("unix:a\0b", "the path is missing"),
            ("tcp:", "the port is missing"), ("tcp:host", "the port is missing"),
            ("tcp::1", "the host is missing"), ("tcp:[]:1", "the host is missing"),
            ("tcp:::1:80", "in brackets"), ("tcp:[::1:80", "in brackets"),
            ("tcp:::1]:80", "in brackets"), ("tcp:[::1]", "in brackets"),
            ("tcp:a:", "no number from 0 to 65535"), ("tcp:a:x", "no number from 0 to 65535"),
            ("tcp:a:+1", "no number from 0 to 65535"), ("tcp:a:-1", "no number from 0 to 65535"),
            ("tcp:a:65536", "no number from 0 to 65535"),
            ("tcp:a: 1", "no number from 0 to 65535"), ("tcp:a:1 ", "no number from 0 to 65535"),
            ("tcp:a:١", "no number from 0 to 65535"), ("tcp:a:½", "no number from 0 to 65535"),
            ("tcp:a:99999999999999999999", "no number from 0 to 65535"),
        ])
    func refuses(text: String, reason: String) throws {
        let error = try #require(throws: ChannelAddress.ParseError.self) {
            try ChannelAddress(parsing: text)
        }
        #expect(error.text == text)
        #expect(error.reason.contains(reason), "\(error.reason)")
        #expect(error.description.contains("write tcp:HOST:PORT"))
    }

    @Test("a unix path has up to 107 bytes", arguments: [106, 107, 108, 1000])
    func pathLength(bytes: Int) {
        for path in [
            String(repeating: "a", count: bytes), String(repeating: "é", count: bytes / 2),
        ] {
            let address = try? ChannelAddress(parsing: "unix:\(path)")
            #expect((address != nil) == (path.utf8.count <= 107))
        }
    }
}
