internal import ArgumentParser
internal import CoreMetrics
internal import Postcopy

/// Whether the figures of a running migration are shown to a monitoring system.
struct MetricsOptions: ParsableArguments {
    @Option(
        help: """
            Serves figures as OpenMetrics text by HTTP, as \(MetricsRequest.path), as long as the \
            command runs: tcp:127.0.0.1:9464 (port 0: a free one) or unix:PATH.
            """,
        transform: ChannelAddress.init(parsing:))
    var metrics: ChannelAddress?

    /// Serves them from now on, and has migrations of this process tell theirs.
    /// - Returns: whether anybody asked for it.
    /// - Throws: `Refusal` when the place cannot be had.
    func serve(_ console: Console, _ leftovers: Leftovers) throws -> Bool {
        guard let metrics else { return false }
        let registry = MetricsRegistry()
        let server: MetricsServer
        do { server = try MetricsServer(at: metrics) { registry.text } } catch {
            throw Refusal.environment("--metrics: \(error)")
        }
        leftovers.add { server.end() }
        MetricsSystem.bootstrap(registry)
        console.note("metrics at \(server.address), as \(MetricsRequest.path) by HTTP")
        return true
    }
}
