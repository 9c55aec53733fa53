/// Why a migration does not begin: how it was called, or that the process has no room for it. Nothing has
/// changed by that.
public enum StartRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    /// A source or destination is good for one migration.
    case alreadyStarted
    /// There is nothing yet to wait for.
    case notStarted
    /// Two migrations of the same memory would take pages from each other, and a migration those that a
    /// fault handler serves. One whose source did not wait
    /// for `Guest.pause` has it until that returns: it lets the guest run again then.
    case memoryInUse(block: String)
    /// The guest has other RAM blocks than when the source or destination was made.
    case memoryChanged
    /// Memory that the program mapped itself is not there any more, or not as it was.
    case memory(RAMError)
    /// The process may have no more threads.
    case noThread(Errno)

    /// What is wrong and the remedy, in one line.
    public var description: String {
        switch self {
        case .alreadyStarted:
            "it was started before: make another source or destination for another migration"
        case .notStarted:
            "it was not started yet, and waiting for it would never end: start it first"
        case .memoryInUse(let block):
            "RAM block '\(block)' is in another migration, or a fault handler serves it: wait for that to "
                + "end, and for a Guest.pause that it gave up to return; where its guest is paused, "
                + "recover it or give it up (abandonGuest)"
        case .memoryChanged:
            "the guest has other RAM blocks than when this was made: make another source or "
                + "destination for it"
        case .memory(let error): "\(error)"
        case .noThread(let error):
            "no thread for the migration: \(error); allow the process more (ulimit -u, pids.max of "
                + "its control group)"
        }
    }
}
