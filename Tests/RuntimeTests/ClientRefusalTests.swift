import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

extension RuntimeLaws {
    /// Clients of this process, which need not fit.
    @Suite("A client that is attached")
    struct ClientRefusalTests {
        private static func memory(_ name: String, _ backing: RAMBacking) throws -> GuestRAM {
            try GuestRAM(
                BlockGeometry(
                    name: name, lengthBytes: 256 << 12, hostPage: HostMemory.pageSize),
                backing: backing)
        }

        /// A second mapping of a block's memory, registered with a userfaultfd of its own.
        private struct Mapping: ~Copyable {
            let ram: GuestRAM
            let uffd: Userfaultfd

            init(of original: GuestRAM) throws {
                let mapped = try Self.map(original)
                uffd = try Self.register(mapped)
                ram = mapped
            }

            private static func map(_ original: GuestRAM) throws -> GuestRAM {
                var files = DescriptorParcel()
                try files.add(fileOf: original)
                guard let file = files.takeFirst() else { throw Errno.invalidArgument }
                return try GuestRAM(original.geometry, sharing: file)
            }

            private static func register(_ ram: GuestRAM) throws -> Userfaultfd {
                ram.avoidHugePages()
                let uffd = try Userfaultfd.open(.userOnly)
                try uffd.register(ram)
                return uffd
            }

            func client(_ regions: [SharedRegion]) throws -> SharedClient {
                var parcel = DescriptorParcel()
                try parcel.add(uffd)
                guard let descriptor = parcel.takeFirst() else { throw Errno.invalidArgument }
                return try SharedClient(userfaultfd: descriptor, regions: regions)
            }

            /// The whole of a block.
            func client(of original: GuestRAM) throws -> SharedClient {
                try client([region(of: original, lengthBytes: original.geometry.lengthBytes)])
            }

            func region(of original: GuestRAM, lengthBytes: UInt64) -> SharedRegion {
                SharedRegion(
                    address: ClientAddress(rawValue: ram.address.rawValue),
                    lengthBytes: lengthBytes, memory: original, offset: RAMOffset(rawValue: 0))
            }
        }

        private static func refusal(
            _ session: DestinationSession, _ client: SharedClient
        ) -> SharedClientError? {
            do throws(SharedClientError) { try session.attach(client) } catch { return error }
            return nil
        }

        @Test("it must fit the guest, and may be tried again after it did not")
        func fits() throws {
            let shared = try Self.memory("shared", .memfd)
            let own = try Self.memory("own", .anonymous)
            let foreign = try Self.memory("foreign", .memfd)
            let guest = ModelGuest([shared, own], seed: 1)
            let session = try DestinationSession(guest: guest, options: testOptions())
            let mapping = try Mapping(of: shared)
            let whole = shared.geometry.lengthBytes
            let strange = try mapping.client([mapping.region(of: foreign, lengthBytes: whole)])
            #expect(Self.refusal(session, strange) == .foreignMemory(block: "foreign"))
            let hidden = try mapping.client([mapping.region(of: own, lengthBytes: whole)])
            #expect(Self.refusal(session, hidden) == .privateMemory(block: "own"))
            let long = try mapping.client([mapping.region(of: shared, lengthBytes: whole + 4096)])
            let address = ClientAddress(rawValue: mapping.ram.address.rawValue)
            #expect(
                Self.refusal(session, long)
                    == .table(.beyondBlock(address, block: "shared", lengthBytes: whole)))
            let client = try mapping.client(of: shared)
            #expect(Self.refusal(session, client) == nil)
            #expect(Self.refusal(session, client) == .alreadyAttached)
            #expect(session.detach(client) && !session.detach(client))
        }

        /// Migrates a guest of one shared block, in which most pages are zero, by a precopy alone.
        private static func migrated() throws -> (
            ModelGuest, DestinationSession, DestinationReport
        ) {
            let source = ModelGuest([try memory("ram", .anonymous)], seed: 1)
            source.fill()
            let guest = ModelGuest([try memory("ram", .memfd)], seed: 1)
            var options = testOptions()
            options.precopy = PrecopyOptions()
            let session = try DestinationSession(guest: guest, options: options)
            let sending = try SourceSession(guest: source, options: options)
            let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
            let address = listener.address
            let place = Handover(listener)
            let receiver = try Bounded("destination") { session.run(on: place.take()) }
            let sender = try Bounded("source") { sending.run(to: address) }
            #expect(sender.output() != nil)
            return (guest, session, try #require(receiver.output()))
        }

        @Test("whoever comes late waits for nothing, in pages that were never made either")
        func late() throws {
            let (guest, session, report) = try Self.migrated()
            #expect(report.status == .completed)
            let mapping = try Mapping(of: guest.memory[0])
            let client = try mapping.client(of: guest.memory[0])
            #expect(Self.refusal(session, client) == nil)
            let ram = mapping.ram
            let reader = try Bounded("late") {
                (0..<ram.geometry.targetPageCount).reduce(0) { sum, page in
                    sum &+ ram.loadWord(at: UInt64(page) << 12)
                }
            }
            #expect(reader.output() != nil, "it waits")
            #expect(client.faultCount == 0)
        }

        @Test("what it mapped into the middle meanwhile keeps nobody waiting beside it")
        func mappedOver() throws {
            let (guest, session, _) = try Self.migrated()
            let mapping = try Mapping(of: guest.memory[0])
            let ram = mapping.ram
            // A file on a disk, which cannot be registered: the kernel refuses the whole region for it.
            let file = unsafe open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
            defer { close(file) }
            let page = UInt64(101) << 12
            let address = UInt(ram.address.rawValue + page)
            let place = unsafe UnsafeMutableRawPointer(bitPattern: address)
            let mapped = unsafe mmap(place, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0)
            try #require(unsafe mapped == place)
            // In pages that the migration left out: nobody made them.
            let touchAll: @Sendable () -> UInt64 = {
                (0..<ram.geometry.targetPageCount).reduce(0) { sum, page in
                    sum &+ ram.loadWord(at: UInt64(page) << 12)
                }
            }
            let early = try Bounded("early", touchAll)
            let client = try mapping.client(of: guest.memory[0])
            #expect(Self.refusal(session, client) == nil)
            #expect(early.output() != nil, "who waited before goes on")
            #expect(try Bounded("late", touchAll).output() != nil, "it waits")
        }

        @Test("registered after every page has come, it is released all the same")
        func registeredLate() throws {
            let (guest, session, _) = try Self.migrated()
            let mapping = try Mapping(of: guest.memory[0])
            try mapping.uffd.unregister(mapping.ram)
            let client = try mapping.client(of: guest.memory[0])
            #expect(Self.refusal(session, client) == nil)
            try mapping.uffd.register(mapping.ram)
            client.noteRegistered()
            let ram = mapping.ram
            let reader = try Bounded("late") {
                (0..<ram.geometry.targetPageCount).reduce(0) { sum, page in
                    sum &+ ram.loadWord(at: UInt64(page) << 12)
                }
            }
            #expect(reader.output() != nil, "it waits")
        }

        @Test("a guest that will not run here takes none")
        func failed() throws {
            let shared = try Self.memory("ram", .memfd)
            let guest = ModelGuest([shared], seed: 1)
            let session = try DestinationSession(guest: guest, options: testOptions())
            let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
            let address = listener.address
            let place = Handover(listener)
            let receiver = try Bounded("destination") { session.run(on: place.take()) }
            let stranger = try StreamSocket.connect(to: address)
            let nonsense = Array(repeating: UInt8(0x41), count: 64)
            try stranger.send(nonsense.span)
            let report = try #require(receiver.output())
            #expect(report.status == .failed)
            let mapping = try Mapping(of: shared)
            #expect(Self.refusal(session, try mapping.client(of: shared)) == .migrationEnded)
        }
    }
}
