import Postcopy

/// The memory of the guest: one RAM block of 64 MiB, in pages of the system's size.
func tallyMemory() throws -> GuestRAM {
    let block = try BlockGeometry(
        name: "tally.ram", lengthBytes: 64 << 20, hostPage: HostMemory.pageSize)
    return try GuestRAM(block, backing: .anonymous)
}
