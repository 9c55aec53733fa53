import Postcopy

/// Moves a guest from one place to another in this process, as two hosts would over a network.
func move(_ here: Tally, to there: Tally) async throws -> (SourceReport, DestinationReport) {
    let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
    let address = listener.address
    let destination = try MigrationDestination(guest: there)
    try destination.start(on: listener)

    let source = try MigrationSource(guest: here, options: sourceOptions())
    let watching = try watch(source)
    let sent = try await source.run(to: address).get()
    let received = try await destination.wait().get()
    await watching.value
    return (sent, received)
}
