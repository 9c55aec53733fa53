import Glibc
import LinuxKernel
import Testing

@Suite("TrackerRefusal")
struct TrackerRefusalTests {
    private static let otherwise = "or use another dirty tracker, or migrate without a precopy"

    /// What the kernel does not answer here.
    private static let other = Errno(rawValue: EIO)

    private func expectOneLine(_ refusal: TrackerRefusal) {
        let text = refusal.description
        #expect(text.hasPrefix("write-protect tracking: "))
        #expect(text.hasSuffix(", \(Self.otherwise)") || text.hasSuffix("; \(Self.otherwise)"))
        #expect(!text.contains("\n"))
    }

    @Test(
        "a page map that cannot be scanned names its remedy",
        arguments: [
            (Errno.noSuchControl, "boot Linux 6.7 or newer"), (.noEntry, "mount it"),
            (.accessDenied, "PR_SET_DUMPABLE"), (.notPermitted, "PR_SET_DUMPABLE"),
            (other, "no known cause"),
        ])
    func scanning(error: Errno, remedy: String) {
        let refusal = TrackerRefusal.scanning(error)
        expectOneLine(refusal)
        #expect(refusal.description.contains(remedy))
        #expect(refusal.description.contains("\(error)"))
    }

    @Test(
        "a block that cannot be protected is named, with its remedy",
        arguments: [
            (Errno.busy, "end the incoming postcopy"), (.invalidArgument, "back it by one of them"),
            (.notPermitted, "ignore the block"), (.noMemory, "free some"),
            (other, "no known cause"),
        ])
    func registering(error: Errno, remedy: String) {
        let refusal = TrackerRefusal.registering("pc.ram", error)
        expectOneLine(refusal)
        #expect(refusal.description.contains(remedy))
        #expect(refusal.description.contains("'pc.ram': \(error)"))
    }

    @Test("a kernel without the features is told which version has them")
    func features() {
        let missing = UserfaultfdRefusal.missing(.noticedWrites, .invalidArgument)
        let refusal = TrackerRefusal.opening(missing)
        expectOneLine(refusal)
        #expect(refusal.description.contains("asynchronous write protection (6.7, on aarch"))
        #expect(refusal.description.contains("boot a newer one"))
        #expect(refusal.description.contains("\(Errno.invalidArgument)"))
    }

    @Test("no memory to track is refused")
    func nothing() {
        #expect(throws: TrackerRefusal.self) { try WriteProtectTracker([]).check() }
        #expect(throws: TrackerRefusal.self) { try ReportedWrites([]).check() }
    }
}
