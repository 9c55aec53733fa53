/// What each error means for tracking by write protection, and what helps.
extension TrackerRefusal {
    private static let otherwise = "or use another dirty tracker, or migrate without a precopy"

    static let nothingToTrack = TrackerRefusal(
        "dirty tracking: there is no RAM block to track; name those that the guest writes")

    package static func opening(_ refusal: UserfaultfdRefusal) -> TrackerRefusal {
        TrackerRefusal(
            "write-protect tracking: \(refusal); \(otherwise)", command: refusal.cause.command)
    }

    /// Of opening or scanning the page map.
    package static func scanning(_ error: Errno) -> TrackerRefusal {
        let (reason, command) =
            switch error {
            case .noSuchControl:
                ("the kernel lacks PAGEMAP_SCAN; boot Linux 6.7 or newer", "uname -r")
            case .noEntry: ("there is no /proc; mount it", "sudo mount -t proc proc /proc")
            case .accessDenied, .notPermitted:
                ("no permission; make the process dumpable (PR_SET_DUMPABLE)", "sudo dmesg")
            case .tooManyFiles, .fileTableFull:
                (FileDescriptor.limitReason, FileDescriptor.limitCommand)
            default: ("no known cause", "sudo dmesg")
            }
        return TrackerRefusal(
            "write-protect tracking: /proc/self/pagemap: \(error): \(reason), \(otherwise)",
            command: command)
    }

    /// Of registering or protecting a RAM block.
    package static func registering(_ block: String, _ error: Errno) -> TrackerRefusal {
        let reason =
            switch error {
            case .busy:
                "another userfaultfd has its memory; end the incoming postcopy or the tracker "
                    + "that uses it"
            case .invalidArgument:
                "the kernel protects only private memory, memfd and hugetlb; back it by one of them"
            case .notPermitted: "its memory may not be written; ignore the block"
            case .noMemory: "no memory for page tables; free some, 2 MiB for each GiB of the block"
            default: "no known cause"
            }
        return TrackerRefusal(
            "write-protect tracking: RAM block '\(block)': \(error): \(reason), \(otherwise)")
    }
}
