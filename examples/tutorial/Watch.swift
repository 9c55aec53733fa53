import Postcopy

/// Prints each status, and lifts the limit once half of the memory was sent.
func watch(_ source: MigrationSource) throws -> Task<Void, Never> {
    let updates = try source.updates(everyNanoseconds: 20_000_000)
    return Task {
        var last = MigrationStatus.none
        for await progress in updates {
            if progress.status != last { print(progress.status) }
            last = progress.status
            if progress.remainingPages < progress.totalPages / 2 {
                try? source.setLimits { $0.maxBandwidth = nil }
            }
        }
    }
}
