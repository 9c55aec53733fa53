internal import CPostcopy
internal import Postcopy
internal import Synchronization

/// `postcopy_ram`: a RAM block, and who counts on it.
final class RAMBlock: Handled {
    static let kind = "postcopy_ram"

    private enum Use {
        case users(Int)
        case freed
    }

    let ram: GuestRAM
    private let use = Mutex(Use.users(0))

    init(_ ram: GuestRAM) { self.ram = ram }

    /// Keeps the block from being freed until `release`.
    func retain() throws(Failure) {
        try use.withLock { use throws(Failure) in
            guard case .users(let count) = use else {
                throw .badHandle("RAM block '\(ram.geometry.name)' was freed")
            }
            use = .users(count + 1)
        }
    }

    func release() {
        use.withLock { use in
            if case .users(let count) = use { use = .users(count - 1) }
        }
    }

    /// Ends the block's use for good.
    func close() throws(Failure) {
        try use.withLock { use throws(Failure) in
            if case .users(let count) = use, count > 0 {
                throw .wrongState(
                    "RAM block '\(ram.geometry.name)' is in use: free each source, destination and "
                        + "fault handler that has it first")
            }
            use = .freed
        }
    }
}

extension RAMBlock {
    convenience init(_ options: postcopy_ram_options) throws(Failure) {
        let name = try unsafe text(options.name, "postcopy_ram_options.name")
        let pageBytes = unsafe options.page_size
        guard let page = pageBytes == 0 ? HostMemory.pageSize : PageSize(bytes: pageBytes) else {
            throw .invalid(
                "RAM block '\(name)': a page of \(pageBytes) bytes is no power of two from 4096 "
                    + "to 1 GiB"
            )
        }
        guard let backing = unsafe RAMBacking(options.backing) else {
            throw .invalid("RAM block '\(name)': there is no backing \(unsafe options.backing)")
        }
        guard unsafe options.reserved == 0 else {
            throw .invalid("RAM block '\(name)': the reserved member is not 0")
        }
        let usedBytes = unsafe options.used_length
        let hasMapping = unsafe options.mapping != nil
        let hasFile = unsafe options.shared_file != nil
        guard !hasFile || !hasMapping && usedBytes == 0 else {
            throw .invalid(
                "RAM block '\(name)': shared_file goes with neither mapping nor used_length")
        }
        let usedLength = usedBytes == 0 ? nil : usedBytes
        let geometry = try coded {
            try BlockGeometry(name: name, lengthBytes: unsafe options.length, hostPage: page)
        }
        let address = unsafe options.guest_physical_address
        if hasFile {
            let path = try unsafe text(options.shared_file, "postcopy_ram_options.shared_file")
            self.init(
                try coded {
                    try GuestRAM(geometry, sharing: path, guestPhysicalAddress: address)
                })
        } else if let mapping = unsafe options.mapping {
            let start = HostAddress(rawValue: UInt64(UInt(bitPattern: mapping)))
            self.init(
                try coded {
                    try unsafe GuestRAM(
                        geometry, mapping: start, backing: backing, usedBytes: usedLength,
                        guestPhysicalAddress: address)
                })
        } else {
            self.init(
                try coded {
                    try GuestRAM(
                        geometry, backing: backing, usedBytes: usedLength,
                        guestPhysicalAddress: address)
                })
        }
    }
}

extension RAMBacking {
    fileprivate init?(_ number: UInt32) {
        switch Int(number) {
        case POSTCOPY_BACKING_ANONYMOUS: self = .anonymous
        case POSTCOPY_BACKING_MEMFD: self = .memfd
        case POSTCOPY_BACKING_HUGETLB: self = .hugetlb
        default: return nil
        }
    }
}

extension [RAMBlock] {
    /// More than any machine has: memory in all of its slots is a few dozen.
    private static var countMax: Int { 1_024 }

    /// The blocks of a list of C's.
    init(_ handles: UnsafePointer<OpaquePointer?>?, _ count: Int) throws(Failure) {
        self.init()
        guard count != 0 else { return }
        guard (1...Self.countMax).contains(count) else {
            throw .invalid("\(count) RAM blocks are over \(Self.countMax)")
        }
        guard let handles = unsafe handles else { throw .null("the list of RAM blocks") }
        for index in 0..<count { append(try unsafe Handles.find(handles[index])) }
    }

    /// Keeps every block until `release`; or none, when one was freed meanwhile.
    func retain() throws(Failure) {
        for (index, block) in enumerated() {
            do throws(Failure) { try block.retain() } catch {
                for earlier in self[..<index] { earlier.release() }
                throw error
            }
        }
    }

    func release() { for block in self { block.release() } }
}

extension FaultOrigin {
    /// - Parameter structName: which struct of C's it stands in.
    init(_ number: UInt32, _ structName: String) throws(Failure) {
        switch Int(number) {
        case POSTCOPY_FAULTS_USER_AND_KERNEL: self = .userAndKernel
        case POSTCOPY_FAULTS_USER_ONLY: self = .userOnly
        default: throw .invalid("\(structName).fault_origin \(number) is none")
        }
    }
}
