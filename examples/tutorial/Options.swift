import Postcopy

/// Sends memory while the guest runs, at first no faster than 64 MB/s; what is left follows the guest.
func sourceOptions() throws -> MigrationOptions {
    var precopy = PrecopyOptions()
    // Two passes through memory, and then postcopy, whatever is left.
    precopy.switchover = try SwitchoverSettings(
        downtimeLimitNanoseconds: nil, switchAfterRounds: 2, isAutomatic: false)
    var options = MigrationOptions()
    options.precopy = precopy
    options.maxBandwidth = 64_000_000
    return options
}
