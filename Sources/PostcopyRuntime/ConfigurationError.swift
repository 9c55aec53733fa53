internal import LinuxKernel
public import MigrationCore
internal import PageModel

/// Why a guest cannot be migrated as it describes itself, or as it is asked for. Found before any
/// thread starts.
public enum ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The name stands behind a length in the stream's head: at most 255 bytes.
    case machineTypeTooLong(bytes: Int)
    /// A guest without RAM blocks.
    case noMemory
    /// A block is known by its name alone.
    case repeatedBlock(String)
    /// Two blocks over the same memory of this process: what one drops the other loses.
    case overlappingBlocks(String, String)
    /// The kernel reports missing pages of files on tmpfs and hugetlbfs only.
    case fileNotInMemory(String)
    /// A destination's pages must be able to miss.
    case contentOfFile(String)
    /// An option of `MigrationOptions`, by its name.
    case zeroBandwidth(option: String)
    /// A limit of a precopy's that was set while it runs.
    case precopy(PrecopySettingsError)
    /// A downtime limit for a source without precopy, whose guest never waits for memory.
    case noPrecopyToLimit

    public var description: String {
        switch self {
        case .machineTypeTooLong(let bytes):
            "the guest's machine type is \(bytes) bytes long; give it a name of at most 255"
        case .noMemory: "the guest has no RAM block"
        case .repeatedBlock(let name):
            "the guest has two RAM blocks named '\(name)'; give each its own name"
        case .overlappingBlocks(let first, let second):
            "the guest's RAM blocks '\(first)' and '\(second)' share memory of this process: give each "
                + "its own, or make one block of both"
        case .fileNotInMemory(let name):
            "RAM block '\(name)' is mapped from a file on a disk, whose missing pages the kernel does "
                + "not report: move the file to tmpfs or hugetlbfs, or turn ignoresShared on at both "
                + "sides"
        case .contentOfFile(let name):
            "RAM block '\(name)' is read from a file, and so has all its pages: give a destination "
                + "memory of its own"
        case .zeroBandwidth(let option):
            "\(option) is 0 bytes per second, at which no page would ever arrive; give it at least "
                + "1, or nil for no limit"
        case .precopy(let error): "\(error)"
        case .noPrecopyToLimit:
            "a downtime limit is for a precopy, and this source moves its guest without one: leave it "
                + "nil"
        }
    }

    static func check(
        _ guest: any Guest, _ options: MigrationOptions
    ) throws(ConfigurationError) {
        guard options.maxBandwidth != 0 else { throw .zeroBandwidth(option: "maxBandwidth") }
        guard options.maxPostcopyBandwidth != 0 else {
            throw .zeroBandwidth(option: "maxPostcopyBandwidth")
        }
        let bytes = guest.machineType.utf8.count
        guard bytes <= 255 else { throw .machineTypeTooLong(bytes: bytes) }
        guard !guest.memory.isEmpty else { throw .noMemory }
        var names: Set<String> = []
        for ram in guest.memory {
            let name = ram.geometry.name
            guard names.insert(name).inserted else { throw .repeatedBlock(name) }
        }
        try checkAddresses(of: guest.memory)
    }

    /// Whether each block has memory of its own.
    private static func checkAddresses(of memory: [GuestRAM]) throws(ConfigurationError) {
        guard let (first, second) = memory.firstOverlap() else { return }
        throw .overlappingBlocks(memory[first].geometry.name, memory[second].geometry.name)
    }

    /// What a destination needs beyond that.
    static func checkPlaces(of list: BlockList) throws(ConfigurationError) {
        for (_, ram) in list.sent where !ram.canMissPages {
            let name = ram.geometry.name
            throw ram.isFileContent ? .contentOfFile(name) : .fileNotInMemory(name)
        }
    }
}
