import LinuxKernel
import PageModel
import Synchronization
import Testing

@Suite("A fault that meets an unregister")
struct UnregisterRaceTests {
    private static let rounds = 4_000

    /// What the touching thread is told and says; sequentially consistent, since it only meets.
    private final class Meeting: Sendable {
        let round = Atomic(-1)
        let done = Atomic(-1)
        let blocks: [GuestRAM]

        init(_ blocks: [GuestRAM]) { self.blocks = blocks }

        func touchAll() {
            for (index, ram) in blocks.enumerated() {
                while round.load(ordering: .sequentiallyConsistent) < index {}
                _ = ram.loadWord(at: 0)
                done.store(index, ordering: .sequentiallyConsistent)
            }
        }
    }

    @Test(
        "a thread that faults while its memory is unregistered goes on",
        .enabled(if: HostUnderTest.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
    func neverStranded() throws {
        let uffd = try Userfaultfd.open(.userOnly)
        let page = HostMemory.pageSize
        let blocks = try (0..<Self.rounds).map { index in
            let geometry = try BlockGeometry(
                name: "b\(index)", lengthBytes: page.bytes, hostPage: page)
            return try GuestRAM(geometry, backing: .anonymous)
        }
        for block in blocks { try uffd.register(block) }
        let meeting = Meeting(blocks)
        let toucher = try JoinableThread(name: "toucher") { meeting.touchAll() }
        var stranded: [Int] = []
        for (index, block) in blocks.enumerated() {
            meeting.round.store(index, ordering: .sequentiallyConsistent)
            // The fault takes a microsecond or two to get where it could be stranded.
            for _ in 0..<index % 400 { _ = Monotonic.now() }
            try uffd.unregister(block)
            let deadline = Monotonic.now() + 2_000_000_000
            while meeting.done.load(ordering: .sequentiallyConsistent) < index {
                guard Monotonic.now() < deadline else {
                    stranded.append(index)
                    try uffd.wake(HostPageIndex(rawValue: 0), of: block)
                    break
                }
            }
            if stranded.count == 3 { break }
        }
        #expect(stranded == [])
        meeting.round.store(Self.rounds, ordering: .sequentiallyConsistent)
        for block in blocks { try? uffd.unregister(block) }
        while meeting.done.load(ordering: .sequentiallyConsistent) < Self.rounds - 1 {
            for block in blocks { try uffd.wake(HostPageIndex(rawValue: 0), of: block) }
        }
        toucher.join()
    }
}
