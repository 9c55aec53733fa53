import Foundation
import Glibc
import Testing

/// `postcopy doctor` names cause and remedy of what is really taken away, and of nothing else.
@Suite(.serialized) struct DoctorTests {
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let prefix: [String]
        /// By name of a line: its state, and parts of finding, remedy or command.
        let changed: [String: [String]]
        let status: Int32

        init(
            _ what: String, _ prefix: [String], status: Int32 = 0, _ changed: [String: [String]]
        ) {
            testDescription = what
            self.prefix = prefix
            self.changed = changed
            self.status = status
        }
    }

    /// Others may change the pools meanwhile, and use memory.
    private static let restless: Set = ["huge-pages", "memory"]

    @Test(
        "the line names the cause and the remedy, and other lines stay what they were",
        .enabled(if: CrippledHost.isPossible), arguments: cases)
    func taken(_ lacking: Case) throws {
        try inPlace { place in
            let host = try CrippledHost(in: place)
            let whole = try host.report()
            let found = try host.report(lacking.prefix)
            #expect(found.status == max(lacking.status, whole.status), "\(found.ended)")
            #expect(Set(found.lines.keys) == Set(whole.lines.keys), "\(found.ended)")
            for (name, line) in found.lines {
                if let words = lacking.changed[name] {
                    // A host that never had it may lack it for another reason.
                    guard whole.lines[name]?.state == "ok" else { continue }
                    for word in words {
                        #expect("\(line)".contains(word), "\(word) in \(name): \(line)")
                    }
                } else if !Self.restless.contains(name) {
                    #expect(line.judgement == whole.lines[name]?.judgement, "\(name): \(line)")
                }
            }
            // A shell understands what is to be pasted into it.
            let commands = found.lines.values.map(\.command).filter { !$0.isEmpty }
            let shell = try RunningCommand(
                ["-n", "-c", commands.joined(separator: "\n")], in: place,
                program: URL(fileURLWithPath: "/bin/sh"))
            #expect(shell.end(within: 20).status == 0, "\(commands)")
            #expect(place.leftovers(expecting: ["postcopy"]) == [])
        }
    }

    // MARK: Cases

    private static let filter = ["degraded", "seccomp filter"]
    private static let group = ["missing", "group kvm", "sudo setfacl"]
    private static let privilege = ["degraded", "sudo sysctl -w vm.unprivileged_userfaultfd=1"]
    private static let lock = ["degraded", "RLIMIT_MEMLOCK allows 0", "--memlock=unlimited"]
    private static let descriptors = ["no more files may be open", "--nofile"]
    private static let noNode = ["degraded", "no node", "mknod -m 600 /dev/userfaultfd"]

    static let cases: [Case] = {
        var cases = filterCases + nodeCases + limitCases + [settingsCase, loopbackCase]
        let setting = try? String(
            contentsOfFile: "/proc/sys/vm/unprivileged_userfaultfd", encoding: .utf8)
        // A host that grants it to all takes nothing away with a privilege.
        if setting?.hasPrefix("0") == true { cases += privilegeCases }
        return cases
    }()

    private static let privilegeCases = [
        Case(
            "an unprivileged user", ["prlimit", "--memlock=0:0"] + CrippledHost.nobody,
            [
                "userfaultfd": privilege + ["user mode only"], "userfaultfd-call": privilege,
                "userfaultfd-device": ["degraded", "sudo setfacl"], "kvm": group,
                "kvm-dirty-log": group, "locked-memory": lock + ["locking a page"],
                "io-uring": lock,
                "capabilities": ["degraded", "--cap-add=SYS_PTRACE --cap-add=IPC_LOCK"],
            ]),
        Case(
            "root without capabilities",
            ["prlimit", "--memlock=0:0"] + CrippledHost.withoutCapabilities,
            [
                "userfaultfd-call": privilege, "locked-memory": lock, "io-uring": lock,
                "capabilities": ["degraded", "sudo setcap cap_ipc_lock+ep"],
            ]),
        Case(
            "root of a user namespace",
            ["prlimit", "--memlock=0:0", "unshare", "--user", "--map-root-user"],
            [
                "userfaultfd-call": privilege, "locked-memory": lock, "io-uring": lock,
                "capabilities": ["degraded", "CAP_IPC_LOCK"],
                "user-namespace": ["degraded", "do not count"],
            ]),
    ]

    private static let filterCases =
        ["EPERM", "ENOSYS", "KILL"].flatMap { answer in
            let calls = [
                "userfaultfd-call": filter, "userfaultfd-user": filter, "io-uring": filter,
                "fault-times": filter,
                "seccomp": ["degraded", "userfaultfd, io_uring_setup, perf_event_open"],
            ]
            let gone = calls.merging([
                "userfaultfd": ["missing", "seccomp filter"], "userfaultfd-device": noNode,
                "missing-faults": ["not known"], "removed-pages": ["not known"],
                "lost-pages": ["not known"], "more-features": ["not known"],
                "dirty-tracking": filter, "kvm": ["missing", "mknod -m 660 /dev/kvm"],
                "kvm-dirty-log": ["missing"],
            ]) { $1 }
            return [
                Case("a filter: \(answer)", CrippledHost.refusing(answer), calls),
                Case(
                    "a filter and no nodes: \(answer)",
                    CrippledHost.withoutNodes + CrippledHost.refusing(answer), status: 2, gone),
            ]
        } + [
            Case(
                "a filter of io_uring alone",
                CrippledHost.refusing("EPERM", [CrippledHost.ringSetup]),
                ["io-uring": filter, "seccomp": ["degraded", "refuses io_uring_setup"]]),
            Case(
                "io_uring that is switched off",
                CrippledHost.mounts(
                    "echo 2 > $TMPDIR/two; "
                        + "mount --bind $TMPDIR/two /proc/sys/kernel/io_uring_disabled; "
                        + "rm $TMPDIR/two")
                    + CrippledHost.refusing("EPERM", [CrippledHost.ringSetup]),
                ["io-uring": ["degraded", "sudo sysctl -w kernel.io_uring_disabled=0"]]),
        ]

    private static let nodeCases = [
        Case(
            "no device nodes", CrippledHost.withoutNodes,
            [
                "userfaultfd-device": noNode, "kvm": ["missing", "mknod -m 660 /dev/kvm"],
                "kvm-dirty-log": ["missing"],
            ]),
        Case(
            "other devices in their place",
            CrippledHost.mounts(
                "mount --bind /dev/null /dev/kvm; mount --bind /dev/null /dev/userfaultfd"),
            [
                "userfaultfd-device": ["degraded", "no userfaultfd device"],
                "kvm": ["missing", "no KVM device"], "kvm-dirty-log": ["missing"],
            ]),
    ]

    private static let limitCases =
        [6, 10, 63].map { count in
            Case(
                "\(count) open files", ["prlimit", "--nofile=\(count):\(count)"], status: 2,
                ["open-files": ["missing", "only \(count) ", "'ulimit -n 64'", "--nofile"]])
        } + [
            Case(
                "one open file", ["prlimit", "--nofile=4:4"], status: 2,
                [
                    "open-files": ["missing", "only 4 "],
                    "userfaultfd-device": descriptors + ["degraded"],
                    "dirty-tracking": descriptors + ["degraded"],
                    "kvm": descriptors + ["missing"], "kvm-dirty-log": descriptors,
                    "tcp-sockets": descriptors, "unix-sockets": descriptors,
                ]),
            Case(
                "little address space", ["prlimit", "--as=600000000:600000000"],
                ["address-space": ["degraded", "RLIMIT_AS allows 572 MiB", "ulimit -v"]]),
        ]

    private static let settingsCase = Case(
        "read-only settings",
        CrippledHost.mounts("mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys"),
        ["system-settings": ["degraded", "read-only", "at the host"]])

    private static let loopbackCase = Case(
        "no loopback", ["unshare", "--net"],
        ["tcp-sockets": ["degraded", "127.0.0.1", "sudo ip link set lo up"]])
}
