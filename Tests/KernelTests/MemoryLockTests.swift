import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("Locked memory")
struct MemoryLockTests {
    private static let small = RAMBacking.allCases.filter { $0 != .hugetlb }

    /// No more than a process may lock without privilege on any host.
    private static func ram(_ backing: RAMBacking) throws -> GuestRAM {
        let page = FaultRig.pageSize(of: backing)
        return try GuestRAM(
            BlockGeometry(name: "locked", lengthBytes: 2 * page.bytes, hostPage: page),
            backing: backing)
    }

    private func isLocked(_ ram: GuestRAM) -> Bool {
        mappingFlags(at: ram.address.rawValue).contains("lo")
    }

    @Test("a lock holds until it is suspended, and comes back", arguments: small)
    func suspends(backing: RAMBacking) throws {
        let ram = try Self.ram(backing)
        try ram.resumeLock()
        #expect(!isLocked(ram), "it was never locked")
        try ram.lock()
        #expect(isLocked(ram))
        let length = ram.geometry.lengthBytes
        #expect(throws: Errno.invalidArgument) {
            try ram.drop(from: RAMOffset(rawValue: 0), lengthBytes: length)
        }
        ram.suspendLock()
        #expect(!isLocked(ram))
        ram.suspendLock()
        try ram.drop(from: RAMOffset(rawValue: 0), lengthBytes: length)
        try ram.resumeLock()
        #expect(isLocked(ram))
    }

    @Test(
        "hugetlb is never swapped, and needs no lock",
        .enabled(if: HostUnderTest.canRaiseHugePages, "needs root, and huge pages of 2 MiB"))
    func hugetlb() throws {
        try HugePagePool.raised(by: 2) {
            let ram = try Self.ram(.hugetlb)
            try ram.lock()
            try ram.drop(from: RAMOffset(rawValue: 0), lengthBytes: ram.geometry.lengthBytes)
            ram.suspendLock()
            try ram.resumeLock()
        }
    }

    @Test(
        "what the limit forbids is refused with the limit and the remedy",
        .enabled(if: geteuid() == 0, "needs root, to become a user without privilege"))
    func refused() async {
        await #expect(processExitsWith: .success) {
            let ram = try MemoryLockTests.ram(.anonymous)
            try HostUnderTest.giveUpLocking()
            let length = ram.geometry.lengthBytes
            var refusal: RAMError?
            do throws(RAMError) { try ram.lock() } catch { refusal = error }
            let expected = RAMError.locking(
                block: "locked", lengthBytes: length, limitBytes: 0, .notPermitted)
            #expect(refusal == expected)
            let text = "\(expected)"
            #expect(text.contains("locking \(length) bytes: Operation not permitted"))
            #expect(text.contains("RLIMIT_MEMLOCK allows 0: raise it (ulimit -l"))
            #expect(!mappingFlags(at: ram.address.rawValue).contains("lo"))
        }
    }
}
