/// What a destination answers to the hello of a link that wants to resume a migration.
///
/// Behind one of the last three it closes the link, perhaps with a reason in front.
public enum RecoveryAnswer: UInt32, Sendable, CaseIterable {
    /// Go on: the guest has not started here.
    case waiting = 0
    /// Go on: the guest runs here.
    case running = 1
    /// Every page is here.
    case completed = 2
    /// The guest never ran here and never will.
    case neverRan = 3
    /// There is nothing here for this link.
    case stranger = 4
    /// A newer link is up.
    case busy = 5
}
