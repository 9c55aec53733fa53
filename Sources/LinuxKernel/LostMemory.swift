internal import CShims
internal import Glibc
internal import PageModel

/// Lets threads go on that touch pages of a RAM which the kernel has poisoned (`UFFDIO_POISON`): they
/// find zeros there. It takes the handler of `SIGBUS` over, for as long as the process lives, and hands
/// on what is about other memory.
///
/// For guests whose threads are this process's own and shall end in order; a VMM has its own handler.
public final class LostMemoryWatch: Sendable {
    /// Kept: another mapping at the same place must not be taken for it.
    private let ram: GuestRAM
    private let place: Int32

    /// - Throws: `ENOSPC` when too many are watched.
    public init(_ ram: GuestRAM) throws(Errno) {
        self.ram = ram
        let geometry = ram.geometry
        place = try Errno.check(
            pc_lost_watch(
                ram.address.rawValue, geometry.lengthBytes, Int32(geometry.hostPage.shift)))
    }

    deinit { _ = pc_lost_unwatch(place) }

    /// Lets the calling thread meet `SIGBUS`; one that blocks it would end the process.
    public static func admit() { SignalMask.unblock([SIGBUS]) }

    /// Lost pages that the calling thread has touched.
    public static var pagesTouchedByThisThread: Int { Int(pc_lost_touched()) }
}
