import Foundation
import LinuxKernel
import Testing

@testable import PostcopyCommand

/// What is printed and written of a host.
@Suite struct DoctorTableTests {
    typealias Host = HostUnderJudgement

    /// One that lacks as much as can be.
    static let crippled = Host.document(
        Host.probes(
            clock: (4_000_000, "jiffies"),
            faults: Host.faults(
                device: .noEntry, systemCall: .notPermitted, userModeOnly: .notPermitted,
                cause: .seccomp),
            tracking: .refused(TrackerRefusal("no tracking")),
            ring: RingProbe(error: .noSystemCall, disabled: nil),
            memory: Host.memory(
                pools: [], transparent: nil, lockError: .noMemory, lockLimitBytes: 0,
                addressLimitBytes: 1 << 20, descriptorLimit: 6,
                groupLimit: .init(bytes: 1 << 20, usedBytes: 0, file: "/g"), overcommit: 2,
                availableBytes: 1 << 20),
            machine: .refused(KVMRefusal(error: .noEntry, isKnown: true)),
            faultEvents: FaultEventProbe(error: .noSystemCall, paranoia: 3),
            sockets: SocketProbe(
                tcp: Host.channelError(.accessDenied), unix: Host.channelError(.noEntry)),
            confinement: Confinement(
                seccompMode: 2, capabilities: 0, isUserNamespace: true,
                isSystemSettingsReadOnly: true)))

    @Test("no line is wider than it may be, but for a single word", arguments: 1...130)
    func widths(columns: Int) {
        let text = DoctorTable(document: Self.crippled, hasColors: false).text(columns: columns)
        for line in text.split(separator: "\n") where line.count > columns {
            // A command that goes on says so by one more word.
            let words = line.split(separator: " ").filter { $0 != "\\" }
            #expect(words.count == 1, "\(columns): \(line)")
        }
        for check in Self.crippled.checks {
            #expect(text.contains(check.name.rawValue))
        }
    }

    @Test("a command that is broken over lines is the same command", arguments: 1...130)
    func commands(columns: Int) {
        for command in Self.crippled.checks.compactMap(\.command) {
            let lines = WrappedText.whole(command, columns: columns, end: " \\")
            let joined = lines.joined(separator: "\n").replacing(" \\\n", with: " ")
            #expect(joined == command)
        }
    }

    @Test("colours change nothing but colours, and are only there when asked for")
    func colours() {
        for columns in [20, 80] {
            let plain = DoctorTable(document: Self.crippled, hasColors: false)
                .text(columns: columns)
            let coloured = DoctorTable(document: Self.crippled, hasColors: true)
                .text(columns: columns)
            #expect(!plain.contains("\u{1B}"))
            #expect(coloured.contains("\u{1B}[31mmissing"))
            let codes = ["\u{1B}[31m", "\u{1B}[32m", "\u{1B}[33m", "\u{1B}[0m"]
            let stripped = codes.reduce(coloured) { $0.replacing($1, with: "") }
            let lines = stripped.split(separator: "\n").map { TextColumns.trimmed(String($0)) }
            #expect(lines == plain.split(separator: "\n").map { TextColumns.trimmed(String($0)) })
        }
    }

    @Test("the exit status is 0, 2 or 3 by what is needed and asked")
    func status() {
        let degraded = Host.document(Host.probes(memory: Host.memory(overcommit: 2)))
        let withoutKVM = Host.document(
            Host.probes(machine: .refused(KVMRefusal(error: .noEntry, isKnown: false))))
        let expected: [(DoctorDocument, DoctorCheck.State, Int32, strict: Int32)] = [
            (Host.document(Host.probes()), .ok, 0, 0), (degraded, .degraded, 0, 3),
            (withoutKVM, .degraded, 0, 3), (Self.crippled, .missing, 2, 2),
        ]
        for (document, status, exit, strict) in expected {
            #expect(document.status == status)
            #expect(document.exitStatus(isStrict: false) == exit)
            #expect(document.exitStatus(isStrict: true) == strict)
        }
        #expect(degraded.summary.hasSuffix("less than it could be: overcommit"))
        #expect(Self.crippled.lacking.map(\.name) == [.userfaultfd, .tcp, .unix, .openFiles])
        for check in Self.crippled.lacking {
            #expect(Self.crippled.summary.contains(check.name.rawValue))
        }
    }

    @Test("the JSON is read back as it was, with names in QMP's style")
    func json() throws {
        let data = Self.crippled.encoded()
        #expect(try DoctorDocument(decoding: data) == Self.crippled)
        let object = try #require(
            try JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(object["schema"] as? Int == 1)
        #expect(object["command"] as? String == "doctor")
        #expect(object["status"] as? String == "missing")
        let checks = try #require(object["checks"] as? [[String: Any]])
        let names = checks.compactMap { $0["name"] as? String }
        #expect(names == DoctorCheck.Name.allCases.map(\.rawValue))
        let style = /[a-z]+(-[a-z]+)*/
        for name in names { #expect(try style.wholeMatch(in: name) != nil) }
    }
}
