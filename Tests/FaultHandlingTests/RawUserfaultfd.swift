import CShims
import FaultHandling
import LinuxKernel
import PageModel

/// A userfaultfd of this process that is handed over as if it came from another.
enum RawUserfaultfd {
    /// - Parameter features: those of the handshake; `nil` for none at all.
    static func open(features: UInt64?) -> Int32 {
        let raw = pc_uffd_open_device()
        guard raw >= 0, let features else { return raw }
        var supported: UInt64 = 0
        precondition(unsafe pc_uffd_handshake(raw, features, &supported) == 0)
        return raw
    }

    /// `memory` as its owner would hand it over, registered.
    /// - Parameter see: sees the descriptor before that.
    static func hand(
        over memory: [GuestRAM], features: [pc_uffd_feature], see: (Int32) -> Void = { _ in }
    ) throws -> ForeignMemory {
        let raw = open(features: features.reduce(0) { $0 | UInt64($1.rawValue) })
        see(raw)
        let descriptor = FileDescriptor(owning: raw)
        var (ioctls, offset): (UInt64, UInt64) = (0, 0)
        var regions: [ForeignRegionDescription] = []
        for ram in memory {
            let length = ram.geometry.lengthBytes
            let answer = unsafe pc_uffd_register(
                raw, ram.address.rawValue, length, UInt64(PC_UFFD_MODE_MISSING.rawValue), &ioctls)
            precondition(answer == 0, "registering")
            regions.append(
                ForeignRegionDescription(
                    address: ram.address.rawValue, lengthBytes: length, contentOffset: offset,
                    pageBytes: ram.geometry.hostPage.bytes))
            offset += length
        }
        return try ForeignMemory(userfaultfd: descriptor, regions: regions)
    }
}
