public import LinuxKernel
public import PageModel
internal import Synchronization

/// A run of a RAM block as another process has it mapped.
public struct SharedRegion: Sendable {
    /// In the other process.
    public let address: ClientAddress
    /// Whole pages of the block.
    public let lengthBytes: UInt64
    /// The block; one of the guest's.
    public let memory: GuestRAM
    /// Where in the block the first byte is.
    public let offset: RAMOffset

    /// A run of a block, where the client has mapped it.
    public init(
        address: ClientAddress, lengthBytes: UInt64, memory: GuestRAM, offset: RAMOffset
    ) {
        self.address = address
        self.lengthBytes = lengthBytes
        self.memory = memory
        self.offset = offset
    }
}

/// Why a process cannot be served.
public enum SharedClientError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What is wrong with its userfaultfd.
    case descriptor(ClientUserfaultfdError)
    /// What is wrong with its addresses.
    case table(ClientTableError)
    /// A region is of memory that is none of the guest's.
    case foreignMemory(block: String)
    /// Nobody else can map it.
    case privateMemory(block: String)
    /// It serves a migration, or has served one.
    case alreadyAttached
    /// The migration has ended without its pages.
    case migrationEnded

    public var description: String {
        switch self {
        case .descriptor(let error): "the client's userfaultfd: \(error)"
        case .table(let error): "the client's table of addresses: \(error)"
        case .foreignMemory(let block):
            "the client's table names RAM block '\(block)', which is no memory of this guest"
        case .privateMemory(let block):
            "RAM block '\(block)' is private memory, which no other process can map: make it of a memfd "
                + "or of a file"
        case .alreadyAttached:
            "the client was attached before: a client serves for one migration, make another one"
        case .migrationEnded: "the migration has ended, and pages are missing for good"
        }
    }
}

/// Another process that uses the guest's memory through a mapping of its own, and so faults in missing
/// pages by itself: a device of a vhost-user back-end, for example.
///
/// It has opened a userfaultfd, sent it here, mapped the guest's shared memory and registered that. A
/// destination serves it once it is attached. It must not touch memory before that, unless registered,
/// nor make pages of it in another way (`fallocate`, `write`, a mapping that is not registered): the
/// migration breaks at a page that is there before it came. A client is trusted as far as the
/// guest's memory is, all of which it may write.
///
/// Source: `PostCopyFD` (`migration/postcopy-ram.h`).
public final class SharedClient: Sendable {
    let userfaultfd: ClientUserfaultfd
    /// What the client has mapped.
    public let regions: [SharedRegion]
    private let isTaken = Atomic(false)
    /// Set before its faults are ended, read after it has registered.
    private let isReleased = Atomic(false)
    // Relaxed: they order nothing.
    let faults = Atomic<UInt64>(0)
    let strays = Atomic<UInt64>(0)
    let isLost = Atomic(false)

    /// - Parameter userfaultfd: the client's, after its `UFFDIO_API` handshake.
    /// - Parameter regions: where it has mapped what, in its own addresses; checked against the guest when
    ///   it is attached.
    public init(
        userfaultfd: consuming FileDescriptor, regions: [SharedRegion]
    ) throws(SharedClientError) {
        guard let first = regions.first else { throw .table(.empty) }
        // Asked about below: an address that is none would be refused as if the descriptor were wrong.
        guard first.address.rawValue < 1 << 63 else {
            throw .table(.beyondAddressSpace(first.address))
        }
        let page = ClientAddress(
            rawValue: first.address.rawValue & ~(HostMemory.pageSize.bytes - 1))
        do throws(ClientUserfaultfdError) {
            self.userfaultfd = try ClientUserfaultfd(userfaultfd, mapping: page)
        } catch { throw .descriptor(error) }
        self.regions = regions
    }

    /// Faults that were read of it.
    public var faultCount: UInt64 { faults.load(ordering: .relaxed) }

    /// Faults at addresses that its table does not hold; nobody can answer them, and whoever waits there
    /// waits until the client closes its descriptor.
    public var strayFaultCount: UInt64 { strays.load(ordering: .relaxed) }

    /// Whether its faults cannot be read any more, for example since it made its descriptor wait.
    public var hasFailed: Bool { isLost.load(ordering: .relaxed) }

    /// Says that the client has registered its mappings just now, where it did not until it was attached,
    /// as with vhost-user: if every page has come meanwhile, it is released from its faults again.
    ///
    /// Threads: any.
    public func noteRegistered() {
        if isReleased.load(ordering: .sequentiallyConsistent) { release() }
    }

    /// Ends its faults: whoever waits is woken, and nobody waits from here on. A client that is gone
    /// needs nothing.
    func release() {
        isReleased.store(true, ordering: .sequentiallyConsistent)
        for region in regions { release(region) }
    }

    /// The same for one region.
    func release(_ region: SharedRegion) {
        let end = ClientAddress(rawValue: region.address.rawValue + region.lengthBytes)
        userfaultfd.release(region.address..<end, inPagesOf: region.memory.placingUnit)
    }

    /// Claims it for a migration; `false` when somebody has.
    func claim() -> Bool { !isTaken.exchange(true, ordering: .relaxed) }

    func unclaim() { isTaken.store(false, ordering: .relaxed) }
}

/// A client with its table in terms of one guest's blocks.
struct AttachedClient: Sendable {
    let client: SharedClient
    let table: ClientTable

    init(_ client: SharedClient, of blocks: [GuestRAM]) throws(SharedClientError) {
        self.client = client
        var regions: [ClientRegion] = []
        for region in client.regions {
            let name = region.memory.geometry.name
            guard let index = blocks.firstIndex(where: { $0 === region.memory }) else {
                throw .foreignMemory(block: name)
            }
            guard region.memory.isMappedByOthers else { throw .privateMemory(block: name) }
            regions.append(
                ClientRegion(
                    address: region.address, lengthBytes: region.lengthBytes,
                    block: BlockIndex(rawValue: index), offset: region.offset))
        }
        let places = blocks.map {
            ClientTable.Block(
                name: $0.geometry.name, lengthBytes: $0.usedBytes, placingUnit: $0.placingUnit)
        }
        do throws(ClientTableError) { table = try ClientTable(regions, of: places) } catch {
            throw .table(error)
        }
    }

    /// Wakes whoever waits in a part of a block, at the client's own addresses.
    func wake(_ offsets: Range<UInt64>, of block: BlockIndex) {
        // The kernel refuses ranges alone, and it took those of the table.
        table.forEachRange(of: offsets, in: block) { try? client.userfaultfd.wake($0) }
    }

    /// Makes a missing part of a block one whose content is lost.
    func poison(_ offsets: Range<UInt64>, of block: BlockIndex) {
        // Without it, or where the client is gone, whoever waits is woken and reads zeros.
        table.forEachRange(of: offsets, in: block) { try? client.userfaultfd.poison($0) }
    }

    /// Ends the faults of one region.
    func release(_ region: ClientRegion) {
        // The table's regions share no address.
        for mapped in client.regions where mapped.address == region.address {
            client.release(mapped)
        }
    }
}
