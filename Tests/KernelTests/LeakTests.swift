import Glibc
import LinuxKernel
import PageModel
import Testing

/// In processes of their own, where no other test opens anything.
@Suite("Leaks")
struct LeakTests {
    /// The memory mappings of the process, by their number.
    private static var mappingCount: Int {
        HostUnderTest.readText("/proc/self/maps").split(separator: "\n").count
    }

    /// Runs `body` a hundred times, and expects that not every second time left something. Exact
    /// counts would not hold: the language's own runtime opens a few descriptors when it likes.
    private static func expectNothingLeft(_ body: () throws -> Void) rethrows {
        try body()
        let descriptors = HostUnderTest.descriptorCount
        let mappings = mappingCount
        for _ in 0..<100 { try body() }
        #expect(HostUnderTest.descriptorCount < descriptors + 50)
        #expect(mappingCount < mappings + 50)
    }

    @Test("sockets and listeners leave no descriptor, refused ones included")
    func sockets() async {
        await #expect(processExitsWith: .success) {
            try LeakTests.expectNothingLeft {
                for kind in ConnectedPair.Kind.allCases {
                    let (near, far) = try ConnectedPair(kind).ends()
                    near.socket.shutDown()
                    #expect(try far.drain().get() == [])
                }
                let path = HostUnderTest.temporaryPath("leak")
                let listener = try Listener(at: .unix(path: path))
                for address in [listener.address, .unix(path: "/nonexistent/a"), .unix(path: "")] {
                    _ = try? Listener(at: address).address
                }
                try? StreamSocket.connect(to: .unix(path: "/nonexistent/a")).shutDown()
                try? StreamSocket.connect(to: .tcp(host: "127.0.0.1", port: 1)).shutDown()
            }
        }
    }

    @Test("flags, rings, buffers and memory leave nothing")
    func kernelObjects() async {
        await #expect(processExitsWith: .success) {
            try LeakTests.expectNothingLeft {
                let flag = try EventFlag()
                if let ring = try? Ring(entries: 4) {
                    // Still under way when the ring goes.
                    try ring.poll(flag, slot: 1)
                    try ring.submit(waitCount: 0, timeoutNanoseconds: 0)
                }
                _ = StagingArea(capacityBytes: 1 << 20)
                _ = FaultClock(threads: [currentThreadID()])
                for backing in RAMBacking.allCases {
                    let page = FaultRig.pageSize(of: backing)
                    let block = try BlockGeometry(
                        name: "leak", lengthBytes: page.bytes << 20, hostPage: page)
                    // So many huge pages are refused.
                    _ = try? GuestRAM(block, backing: backing)
                }
            }
        }
    }

    @Test(
        "userfaultfds leave no descriptor, with memory still registered",
        .enabled(if: HostUnderTest.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
    func userfaultfds() async {
        await #expect(processExitsWith: .success) {
            try LeakTests.expectNothingLeft {
                try FaultRig.run(.memfd, pages: 4) { rig in _ = try rig.place(0..<1) }
                _ = try Userfaultfd.open(.userOnly).origin
            }
        }
    }

    @Test(
        "virtual machines leave no descriptor and no mapping, while tracked",
        .enabled(if: HostUnderTest.hasKVM, "needs access to /dev/kvm"))
    func virtualMachines() async {
        await #expect(processExitsWith: .success) {
            try LeakTests.expectNothingLeft {
                let guest = try FlatGuest(pages: 4)
                _ = try? guest.machine.makeVCPU(id: 0).registers()
                try KVMDirtyLog(
                    machine: guest.machine.rawDescriptor, blocks: [guest.ram.geometry],
                    slots: guest.slots
                ).start()
            }
        }
    }

    @Test("what a VMM executes inherits no descriptor")
    func closeOnExec() async {
        await #expect(processExitsWith: .success) {
            let before = Set(HostUnderTest.names(in: "/proc/self/fd"))
            let (near, far) = try ConnectedPair(.unix).ends()
            let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
            let flag = try EventFlag()
            let guest = HostUnderTest.hasKVM ? try FlatGuest(pages: 1) : nil
            let opened = Set(HostUnderTest.names(in: "/proc/self/fd")).subtracting(before)
            for name in opened.compactMap(Int32.init) {
                let flags = fcntl(name, F_GETFD)
                // The folder that was listed is closed by now.
                #expect(flags == -1 || flags & FD_CLOEXEC != 0)
            }
            // Whatever else was open before may have lent its number.
            #expect(opened.count >= (guest == nil ? 2 : 4))
            near.socket.shutDown()
            far.socket.shutDown()
            flag.raise()
            #expect(listener.address != .tcp(host: "127.0.0.1", port: 0))
        }
    }
}
