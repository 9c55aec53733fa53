internal import LinuxKernel

extension FaultThread {
    /// What the thread waits for.
    struct Watched {
        var poller: Poller
        let flag: Int
        let faults: Int?
        let channels: [(place: Int, channel: UrgentChannel)]
        let clients: [(place: Int, client: AttachedClient)]

        init(
            state: DestinationState, _ channels: UrgentChannels, _ clients: ServedClients,
            readsFaults: Bool
        ) {
            var poller = Poller(capacity: 2 + UrgentChannels.countMax + clients.all.count)
            flag = poller.watch(state.faultFlag)
            faults = readsFaults ? poller.watch(state.uffd) : nil
            self.channels = channels.all.map { ($0.isWatched(by: &poller), $0) }
            self.clients = clients.all.map { (poller.watch($0.client.userfaultfd), $0) }
            self.poller = poller
        }

        func areFor(_ current: UrgentChannels, readsFaults: Bool) -> Bool {
            readsFaults == (faults != nil) && channels.count == current.all.count
                && zip(channels, current.all).allSatisfy { $0.channel === $1 }
        }
    }
}
