/// What Ctrl-C does to a migration under way: the first one cancels, which has no effect any more once
/// the guest has moved; only a second one is obeyed then, and ends the process.
struct StopRequest {
    let console: Console
    let leftovers: Leftovers
    /// What a second one gives up.
    let subject: String
    private var isMade = false

    init(console: Console, leftovers: Leftovers = Leftovers(), subject: String) {
        self.console = console
        self.leftovers = leftovers
        self.subject = subject
    }

    /// Looks for one.
    /// - Parameter cancel: done for the first.
    mutating func heed(_ cancel: () -> Void) {
        guard Interruption.heed() else { return }
        guard !isMade else {
            console.clear()
            ProblemLine.write("interrupted again: \(subject) is abandoned")
            leftovers.removeAndExit(Interruption.exitStatus)
        }
        isMade = true
        cancel()
    }
}
