import Postcopy
import Synchronization

/// A guest of one thread, which writes to one page of its memory after the other.
final class Tally: Guest {
    /// Source and destination must agree on it.
    let machineType = "tally-1"
    let memory: [GuestRAM]
    /// All of the device state: how many pages were written so far.
    let written = Atomic<UInt64>(0)
    /// What a page had lost when it was met again.
    let mismatches = Atomic<UInt64>(0)
    let mayRun = Atomic(false)
    let thread = Mutex<JoinableThread<Void>?>(nil)

    init() throws { memory = [try tallyMemory()] }
}
