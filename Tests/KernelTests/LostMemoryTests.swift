import CShims
import Glibc
import LinuxKernel
import PageModel
import Testing

/// Memory that was given up: threads that touch it go on.
@Suite struct LostMemoryTests {
    /// `_IOWR(UFFDIO, 0x08, struct uffdio_poison)` of Linux 6.6.
    private static let poison: UInt = 0xC020_AA08

    @Test("a thread that touches a poisoned page finds zeros there, is counted, and goes on")
    func goesOn() throws {
        let geometry = try BlockGeometry(name: "ram", lengthBytes: 4 * 4096, hostPage: .target)
        let ram = try GuestRAM(geometry, backing: .anonymous)
        let watch = try LostMemoryWatch(ram)
        guard try Self.poisonPages(1..<3, of: ram) else { return }
        let thread = try JoinableThread<(words: [UInt64], touched: Int)>(name: "reader") {
            LostMemoryWatch.admit()
            let words = (0..<4 as Range<UInt64>).map { ram.loadWord(at: $0 * 4096 + 8) }
            ram.storeWord(9, at: 4096)
            return (words + [ram.loadWord(at: 4096)], LostMemoryWatch.pagesTouchedByThisThread)
        }
        let read = thread.join()
        #expect(read.words == [0, 0, 0, 0, 9])
        #expect(read.touched == 2)
        withExtendedLifetime(watch) {}
    }

    @Test("a thread that touches lost memory which nobody watches ends its process")
    func unwatched() async {
        await #expect(processExitsWith: .signal(SIGBUS)) {
            // The test runner's own handler draws a picture of the stack first, which takes minutes.
            signal(SIGBUS, SIG_DFL)
            let geometry = try BlockGeometry(name: "ram", lengthBytes: 4096, hostPage: .target)
            let ram = try GuestRAM(geometry, backing: .anonymous)
            let other = try LostMemoryWatch(GuestRAM(geometry, backing: .anonymous))
            guard try LostMemoryTests.poisonPages(0..<1, of: ram) else {
                raise(SIGBUS)
                return
            }
            LostMemoryWatch.admit()
            _ = ram.loadWord(at: 0)
            withExtendedLifetime(other) {}
        }
    }

    /// Whether the kernel could.
    private static func poisonPages(_ pages: Range<UInt64>, of ram: GuestRAM) throws -> Bool {
        let raw = pc_uffd_open_syscall(1)
        guard raw >= 0 else { return false }
        let uffd = FileDescriptor(owning: raw)
        defer { withExtendedLifetime(uffd) {} }
        let start = ram.address.rawValue
        let length = ram.geometry.lengthBytes
        var (features, ioctls): (UInt64, UInt64) = (0, 0)
        guard
            unsafe pc_uffd_handshake(raw, UInt64(PC_UFFD_FEATURE_POISON.rawValue), &features) == 0,
            unsafe pc_uffd_register(
                raw, start, length, UInt64(PC_UFFD_MODE_MISSING.rawValue), &ioctls)
                == 0
        else { return false }
        var request: [UInt64] = [
            start + pages.lowerBound * 4096, UInt64(pages.count) * 4096, 0, 0,
        ]
        let answer = unsafe ioctl(raw, poison, &request)
        _ = pc_uffd_unregister(raw, start, length)
        return answer == 0
    }
}
