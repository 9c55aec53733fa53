import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Testing

extension RuntimeLaws.ScriptedSourceTests {
    /// A stream that must be refused, and what the user must read about it.
    struct Refused: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let problem: String
        /// Whether the destination has the guest by then.
        let isLate: Bool
        let make: @Sendable (inout SourceScript) -> [UInt8]

        static func early(
            _ name: String, _ problem: String,
            _ make: @escaping @Sendable (inout SourceScript) -> [UInt8]
        ) -> Refused {
            Refused(testDescription: name, problem: problem, isLate: false, make: make)
        }

        /// The bytes come behind a package whose commit was read.
        static func late(
            _ name: String, _ problem: String,
            _ make: @escaping @Sendable (inout SourceScript) -> [UInt8]
        ) -> Refused {
            Refused(testDescription: name, problem: problem, isLate: true, make: make)
        }
    }

    static let geometries = SourceScript.blocks.compactMap { block in
        try? BlockGeometry(
            name: block.name, lengthBytes: UInt64(block.pages) << 12, hostPage: .target)
    }

    static func commands(_ commands: Command...) -> [UInt8] {
        SourceScript.commands(commands, geometries)
    }

    static func blockList(_ blocks: [(String, UInt64)]) -> [UInt8] {
        var bytes = commands(
            .openReturnPath, .ping(1),
            .postcopyAdvise(pageSizeSummary: 4096, targetPageBytes: 4096))
        StreamEncoder.appendSectionStart(id: 1, to: &bytes)
        let listed = blocks.compactMap {
            try? BlockGeometry(name: $0.0, lengthBytes: $0.1, hostPage: .target)
        }
        StreamEncoder.appendBlockList(listed.listed, to: &bytes)
        StreamEncoder.appendSectionEnd(id: 1, to: &bytes)
        return bytes
    }

    static let advise = Command.postcopyAdvise(pageSizeSummary: 4096, targetPageBytes: 4096)
    static let oneDiscard = Command.discard(SourceScript.discard(0, [2..<4]))

    static let heads: [Refused] = [
        .early("wrong magic", "not a migration stream") { _ in Array("GET / HTTP/1.1".utf8) },
        .early("wrong version", "version 2") { script in
            script.head[7] = 2
            return script.main
        },
        .early("no configuration", "configuration") { script in
            script.head[8] = 2
            return script.main
        },
        .early("endless machine type", "name of 4294967295 bytes") { script in
            script.head.replaceSubrange(9..<13, with: [255, 255, 255, 255])
            return script.main
        },
        .early("other machine type", "other-1") { script in
            var head: [UInt8] = []
            StreamEncoder.appendHead(machineType: "other-1", to: &head)
            return head + script.setup
        },
        .early("unknown section byte", "0x9") { $0.head + [9, 9] },
        .early("a device before memory", "device 'cpu'") {
            $0.head + [4, 0, 0, 0, 9, 3] + Array("cpu".utf8)
        },
        .early("unknown command", "99") { $0.head + [8, 0, 99, 0, 0] },
        .early("PING with a long payload", "PING") { $0.head + [8, 0, 2, 255, 255] },
        .early("other page size", "pages of 4096 and 2097152 bytes, this side of 4096;") {
            $0.head
                + commands(
                    .openReturnPath,
                    .postcopyAdvise(pageSizeSummary: 0x201000, targetPageBytes: 4096))
        },
        .early("unknown block", "'middle'") {
            $0.head + blockList([("middle", 65536), ("high", 65536)])
        },
        .early("block list larger than ours", "'third'") {
            $0.head + blockList([("low", 65536), ("high", 65536), ("third", 65536)])
        },
        .early("block list smaller than ours", "1 of this side's 2 RAM blocks") {
            $0.head + blockList([("low", 65536)])
        },
        .early("longer block", "'low' has 131072 bytes at the source, expected 65536") {
            $0.head + blockList([("low", 131072)])
        },
        .early("shorter block", "'high' has 4096 bytes at the source, expected 65536") {
            $0.head + blockList([("low", 65536), ("high", 4096)])
        },
    ]

    static let orders: [Refused] = [
        .early("ADVISE without a return path", "ADVISE") { $0.head + commands(advise) },
        .early("second ADVISE", "ADVISE") { $0.head + $0.setup + commands(advise) },
        .early("block list before ADVISE", "block list") { script in
            var bytes = script.head + commands(.openReturnPath)
            StreamEncoder.appendSectionStart(id: 1, to: &bytes)
            StreamEncoder.appendBlockList(geometries.listed, to: &bytes)
            return bytes
        },
        .early("block list twice", "section") { $0.head + $0.setup + $0.setup.suffix(80) },
        .early("DISCARD before the block list", "DISCARD") {
            $0.head + commands(.openReturnPath, advise, oneDiscard)
        },
        .early("LISTEN alone", "outside a package") {
            $0.beforePackage + commands(.postcopyListen)
        },
        .early("RUN alone", "outside a package") { $0.beforePackage + commands(.postcopyRun) },
        .early("package before ADVISE", "LISTEN") {
            $0.head + commands(.openReturnPath) + SourceScript.package([1, 2, 3])
        },
        .early("end of the stream before the package", "the end of the stream") {
            $0.beforePackage + $0.end
        },
        .early("PING before the return path", "PING") { $0.head + commands(.ping(7)) },
        .early("a package of 4 GiB", "4294967295") {
            $0.beforePackage + commands(.packaged(lengthBytes: .max))
        },
        .early("a package of nothing", "package") {
            $0.beforePackage + commands(.packaged(lengthBytes: 0))
        },
        .early("a package of noise", "package") {
            $0.beforePackage + commands(.packaged(lengthBytes: 40))
                + Array(repeating: 0x55, count: 40)
        },
        .early("devices that are not ours", "not my devices") {
            $0.beforePackage + SourceScript.package([9])
        },
        .early("DISCARD outside its block", "'low'") { script in
            var discard = commands(oneDiscard)
            discard[discard.count - 9 - 6] = 1
            return script.head + script.setup + script.precopy + discard
        },
    ]

    @Test(
        "what comes before the package fails with its reason", arguments: heads + orders + options)
    func early(_ refused: Refused) throws {
        var script = script
        let destination = try destination()
        let main = try StreamSocket.connect(to: destination.address)
        // The destination may have gone before all is written.
        try? main.send(refused.make(&script).span)
        main.limitWaits(nanoseconds: 5_000_000_000)
        var reader = RawReader()
        _ = reader.readShut(from: main)
        main.shutDownSending()
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .failed)
        #expect(!report.guestRunsHere)
        #expect(!destination.guest.isRunning)
        let problem = try #require(report.problem)
        #expect(problem.contains(refused.problem), "\(problem)")
    }
}
