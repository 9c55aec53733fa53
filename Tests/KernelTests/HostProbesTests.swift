import Glibc
import LinuxKernel
import Testing

@Suite("HostProbes")
struct HostProbesTests {
    @Test("trying leaves no descriptor, mapping or file behind, and finds the same again")
    func leavesNothing() async {
        await #expect(processExitsWith: .success) {
            let folder = HostUnderTest.temporaryPath("doctor")
            try #require(unsafe mkdir(folder, 0o700) == 0)
            defer { _ = unsafe rmdir(folder) }
            let first = HostProbes.probe(folder: folder)
            let descriptors = HostUnderTest.descriptorCount
            let mappings = HostUnderTest.readText("/proc/self/maps").split(separator: "\n").count
            var last = first
            for _ in 0..<20 { last = HostProbes.probe(folder: folder) }
            // Not exactly: the language's own runtime opens a few when it likes.
            #expect(HostUnderTest.descriptorCount < descriptors + 15)
            let maps = HostUnderTest.readText("/proc/self/maps")
            #expect(maps.split(separator: "\n").count < mappings + 15)
            #expect(HostUnderTest.names(in: folder) == [])
            #expect(last.faults == first.faults)
            #expect(last.machine == first.machine)
            #expect(last.tracking == first.tracking)
            #expect(last.sockets == SocketProbe(tcp: nil, unix: nil))
        }
    }

    @Test("what is probed is what the product then gets")
    func agrees() {
        let faults = UserfaultfdProbe.probe()
        #expect((faults.refusal == nil) == HostUnderTest.hasUserfaultfd)
        #expect(faults.features != nil || !HostUnderTest.hasUserfaultfd)
        #expect(faults.placing == nil)
        if case .refused = KVMProbe.probe() {
            #expect(!HostUnderTest.hasKVM)
        } else {
            #expect(HostUnderTest.hasKVM)
        }
    }

    // MARK: Control groups

    private func limit(_ groups: String, _ files: [String: UInt64]) -> MemoryProbe.GroupLimit? {
        MemoryGroup.limit(groups: groups) { files[$0] }
    }

    @Test("the tightest limit of a group and of those above it counts, in either kind")
    func tightest() {
        let root = "/sys/fs/cgroup"
        let unified = [
            "\(root)/a/memory.max": UInt64(4 << 20), "\(root)/a/b/memory.max": 8 << 20,
            "\(root)/a/memory.current": 1 << 20,
        ]
        let expected = MemoryProbe.GroupLimit(
            bytes: 4 << 20, usedBytes: 1 << 20, file: "\(root)/a/memory.max")
        #expect(limit("0::/a/b\n", unified) == expected)
        let old = [
            "\(root)/memory/memory.limit_in_bytes": UInt64.max >> 1,
            "\(root)/memory/c/memory.limit_in_bytes": 2 << 20,
        ]
        let inner = limit("9:name=systemd:/c\n4:cpu,memory:/c\n0::/\n", old)
        #expect(inner?.file == "\(root)/memory/c/memory.limit_in_bytes")
        #expect(inner?.bytes == 2 << 20)
    }

    @Test(
        "no limit, and lines that are none, are no limit",
        arguments: ["", "\n", "0::/\n", "4:memory:/x\n", "memory", "::", "0::/../..\n"])
    func unlimited(groups: String) {
        let most = ["/sys/fs/cgroup/memory/x/memory.limit_in_bytes": UInt64.max >> 1]
        #expect(limit(groups, most) == nil)
    }

    @Test("the word in brackets is the mode")
    func chosen() {
        #expect(MemoryProbe.chosen("always [madvise] never\n") == "madvise")
        #expect(MemoryProbe.chosen("[never]") == "never")
        for none in ["", "always", "]x[", "[", "]"] { #expect(MemoryProbe.chosen(none) == nil) }
    }

    // MARK: Confinement

    @Test("the host's user namespace maps every id to itself, and no other does")
    func userNamespace() {
        #expect(!Confinement.isUserNamespace(map: nil))
        #expect(!Confinement.isUserNamespace(map: "         0          0 4294967295\n"))
        for map in ["0 1000 1\n", "0 0 1\n", "0 100000 65536\n", ""] {
            #expect(Confinement.isUserNamespace(map: map))
        }
    }

    @Test("a capability of a user namespace does not count", arguments: [false, true])
    func capability(isUserNamespace: Bool) {
        for capability in Confinement.Capability.allCases {
            let holder = Confinement(
                seccompMode: 0, capabilities: 1 << capability.rawValue,
                isUserNamespace: isUserNamespace)
            for other in Confinement.Capability.allCases {
                #expect(holder.has(other) == (other == capability && !isUserNamespace))
            }
        }
    }
}
