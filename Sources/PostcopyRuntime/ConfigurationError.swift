internal import LinuxKernel
internal import PageModel

/// Why a guest cannot be migrated as it describes itself. Found before any thread starts.
public enum ConfigurationError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The name stands behind a length in the stream's head: at most 255 bytes.
    case machineTypeTooLong(bytes: Int)
    case noMemory
    /// A block is known by its name alone.
    case repeatedBlock(String)

    public var description: String {
        switch self {
        case .machineTypeTooLong(let bytes):
            "the guest's machine type is \(bytes) bytes long; give it a name of at most 255"
        case .noMemory: "the guest has no RAM block"
        case .repeatedBlock(let name):
            "the guest has two RAM blocks named '\(name)'; give each its own name"
        }
    }

    static func check(_ guest: any Guest) throws(ConfigurationError) {
        let bytes = guest.machineType.utf8.count
        guard bytes <= 255 else { throw .machineTypeTooLong(bytes: bytes) }
        guard !guest.memory.isEmpty else { throw .noMemory }
        var names: Set<String> = []
        for ram in guest.memory {
            let name = ram.geometry.name
            guard names.insert(name).inserted else { throw .repeatedBlock(name) }
        }
    }
}
