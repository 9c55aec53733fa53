import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Testing

/// A file of zeros; gone with this value, but for those that map it.
struct MemoryFile: ~Copyable {
    static let memory = "/dev/shm"
    static let disk = "/var/tmp"
    let path: String

    init(pages: Int, in folder: String = Self.memory) throws {
        path = "\(folder)/postcopy-test-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        let raw = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        try #require(raw >= 0)
        defer { close(raw) }
        try #require(ftruncate(raw, off_t(pages) << 12) == 0)
    }

    deinit { _ = unsafe unlink(path) }
}

extension RuntimeLaws {
    @Suite("Memory that both sides share")
    struct SharedMemoryTests {
        private static func guest(
            _ own: [(name: String, pages: Int)], _ files: [(path: String, pages: Int)],
            address: UInt64 = 0x8000_0000, loadTouches: [[Int]] = []
        ) throws -> PatternGuest {
            let own = try own.map { name, pages in
                try GuestRAM(geometry(name, pages), backing: .anonymous)
            }
            let shared = try files.enumerated().map { index, file in
                try GuestRAM(
                    geometry("shared\(index)", file.pages), sharing: file.path,
                    guestPhysicalAddress: address)
            }
            return try PatternGuest(memory: own + shared, loadTouches: loadTouches)
        }

        private static func geometry(_ name: String, _ pages: Int) throws -> BlockGeometry {
            try BlockGeometry(
                name: name, lengthBytes: UInt64(pages) << 12, hostPage: HostMemory.pageSize)
        }

        private static func options(_ ignoresShared: Bool, preempt: Bool = true) -> MigrationOptions
        {
            var options = testOptions(preempt: preempt)
            options.ignoresShared = ignoresShared
            return options
        }

        @Test(
            "shared memory is listed and never sent, nor emptied", arguments: [true, false],
            [MemoryFile.memory, MemoryFile.disk])
        func ignores(preempt: Bool, folder: String) throws {
            let file = try MemoryFile(pages: 100, in: folder)
            let from = try Self.guest([("low", 300)], [(file.path, 100)])
            let to = try Self.guest(
                [("low", 300)], [(file.path, 100)], loadTouches: [[1, 4], [0, 299], [1, 99]])
            from.fill()
            let options = Self.options(true, preempt: preempt)
            let outcome = try TwoGuests(from: from, to: to, sends: options, receives: options)
                .migrate()
            outcome.expectCompleted()
            let sent = outcome.source.progress
            #expect(sent.totalPages == 300 && sent.remainingPages == 0)
            #expect(sent.normalPages + sent.zeroPages == 300)
            #expect(outcome.destination.progress.totalHostPages == 300)
            #expect(outcome.destination.progress.missingHostPages == 0)
            #expect(from.wrongWords() == 0)
        }

        @Test("with nothing but shared memory only the devices move", arguments: [true, false])
        func nothingElse(preempt: Bool) throws {
            let one = try MemoryFile(pages: 50)
            let two = try MemoryFile(pages: 1)
            let memory = [(one.path, 50), (two.path, 1)]
            let from = try Self.guest([], memory)
            let to = try Self.guest([], memory, loadTouches: [[0, 3], [1, 0]])
            from.fill()
            let options = Self.options(true, preempt: preempt)
            let outcome = try TwoGuests(from: from, to: to, sends: options, receives: options)
                .migrate()
            outcome.expectCompleted()
            let sent = outcome.source.progress
            #expect(sent.totalPages == 0 && sent.normalPages + sent.zeroPages == 0)
            #expect(outcome.destination.progress.requests == 0)
        }

        @Test("both sides must have it on, or off", arguments: [true, false])
        func differs(atSource: Bool) throws {
            let file = try MemoryFile(pages: 10)
            let from = try Self.guest([("low", 10)], [(file.path, 10)])
            let to = try Self.guest([("low", 10)], [(file.path, 10)])
            from.fill()
            let outcome = try TwoGuests(
                from: from, to: to, sends: Self.options(atSource),
                receives: Self.options(!atSource)
            ).migrate()
            outcome.expectRefused(
                "the source has x-ignore-shared \(atSource ? "on" : "off")",
                "this side has it \(atSource ? "off" : "on")")
            #expect(from.wrongWords() == 0)
        }

        @Test("both sides must see it at the same address")
        func addresses() throws {
            let file = try MemoryFile(pages: 10)
            let from = try Self.guest([("low", 10)], [(file.path, 10)], address: 0x1000)
            let to = try Self.guest([("low", 10)], [(file.path, 10)], address: 0x2000)
            let options = Self.options(true)
            let outcome = try TwoGuests(from: from, to: to, sends: options, receives: options)
                .migrate()
            outcome.expectRefused("'shared0'", "0x1000", "0x2000")
        }

        @Test("a file that the source maps too is not emptied where nobody ignores it")
        func protectsSource() throws {
            let file = try MemoryFile(pages: 10)
            let from = try Self.guest([("low", 10)], [(file.path, 10)])
            let to = try Self.guest([("low", 10)], [(file.path, 10)])
            from.fill()
            let outcome = try TwoGuests(
                from: from, to: to, sends: Self.options(false), receives: Self.options(false)
            ).migrate()
            outcome.expectRefused("'shared0'", "turn ignoresShared on")
            #expect(from.wrongWords() == 0, "the guest goes on with its memory")
        }

        @Test("a destination takes no memory whose missing pages nobody reports")
        func disk() throws {
            let file = try MemoryFile(pages: 1, in: MemoryFile.disk)
            let guest = try Self.guest([("low", 1)], [(file.path, 1)])
            // Where this folder is in memory too, there is nothing to refuse.
            if !guest.memory[1].canMissPages {
                let refusal = ConfigurationError.fileNotInMemory("shared0")
                #expect(refusal.description.contains("'shared0'"))
                #expect(throws: refusal) {
                    try DestinationSession(guest: guest, options: Self.options(false))
                }
            }
            _ = try DestinationSession(guest: guest, options: Self.options(true))
            _ = try SourceSession(guest: guest, options: Self.options(false))
        }

        @Test("a request for shared memory is refused")
        func request() throws {
            let file = try MemoryFile(pages: 10)
            let guest = try Self.guest([("low", 10)], [(file.path, 10)])
            let source = try SourceUnderTest(guest, options: Self.options(true, preempt: false))
            let main = try source.accept()
            main.send(
                Answers.ready
                    + ScriptedDestinationTests.request(start: 0, length: 4096, "shared0"))
            try ScriptedDestinationTests.check(
                source, .failed, "a request for RAM block 'shared0', which both sides share")
        }

        @Test("two files of the same name in memory move like any other memory")
        func ownFiles() throws {
            let here = try MemoryFile(pages: 200)
            let there = try MemoryFile(pages: 200)
            let from = try Self.guest([("low", 10)], [(here.path, 200)])
            let to = try Self.guest([("low", 10)], [(there.path, 200)], loadTouches: [[1, 7]])
            from.fill()
            let outcome = try TwoGuests(from: from, to: to).migrate()
            outcome.expectCompleted()
            #expect(outcome.source.progress.totalPages == 210)
        }
    }
}
