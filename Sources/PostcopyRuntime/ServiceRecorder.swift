package import FlightRecorder
internal import LinuxKernel
package import PageModel

/// What one thread of a source did about requests. Nothing is shared until the thread ends.
package struct ServiceRecorder: ~Copyable {
    private let isOn: Bool
    private var ring: FlightRing<ServiceRecord>
    /// Of pages that were taken up and not yet written.
    private var unwritten: [ServiceRecord] = []

    /// A guest of 4 GiB asks for some 20,000 pages: six times that, in 5 MiB.
    static let capacity = 1 << 17

    package init(isOn: Bool) {
        self.isOn = isOn
        ring = FlightRing(capacity: isOn ? Self.capacity : 1)
        // As many as one write takes.
        unwritten.reserveCapacity(ChannelTuning.backgroundPages)
    }

    /// Notes a request that nothing is written for here.
    mutating func note(_ page: HostPage, _ flags: ServiceFlags, receivedAt: UInt64, ahead: Int) {
        guard isOn else { return }
        ring.append(record(page, flags, receivedAt: receivedAt, ahead: ahead))
    }

    /// Notes one whose page goes out with the next write.
    package mutating func take(
        _ page: HostPage, _ flags: ServiceFlags = [], receivedAt: UInt64, ahead: Int = 0
    ) {
        guard isOn else { return }
        unwritten.append(record(page, flags, receivedAt: receivedAt, ahead: ahead))
    }

    /// All that was taken up has been written.
    package mutating func noteWritten() {
        guard !unwritten.isEmpty else { return }
        let now = Monotonic.now()
        for var record in unwritten {
            record.written = now
            ring.append(record)
        }
        unwritten.removeAll(keepingCapacity: true)
    }

    /// Hands over what was recorded, at the end of the thread.
    mutating func leave(to store: FlightStore<ServiceRecord>) {
        // The link broke before they were written.
        for record in unwritten { ring.append(record) }
        unwritten = []
        store.add(ring.drain())
    }

    private func record(
        _ page: HostPage, _ flags: ServiceFlags, receivedAt: UInt64, ahead: Int
    ) -> ServiceRecord {
        var record = ServiceRecord()
        record.received = receivedAt
        record.begun = Monotonic.now()
        record.page = UInt64(page.page.rawValue)
        record.ahead = UInt32(truncatingIfNeeded: ahead)
        record.block = UInt16(truncatingIfNeeded: page.block.rawValue)
        record.flags = flags
        return record
    }
}
