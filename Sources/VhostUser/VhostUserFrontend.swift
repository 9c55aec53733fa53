public import LinuxKernel
internal import PageModel
public import PostcopyRuntime

/// The front-end's side of vhost-user, as far as a device needs it that goes through a postcopy: what a
/// VMM embeds that has such devices and no front-end of its own.
///
/// The order at a destination, in which QEMU asks too: `negotiate`, `advise` and `listen`; then, from
/// `Guest.loadDevices` on, `shareMemory` and the rings; `end` when every page is here. Each call waits
/// for the back-end's answer. One that touches a page to give it waits for that page, so that the
/// destination must be running (`DestinationSession.run`) on another thread.
///
/// Source: `vhost_user_postcopy_advise`, `vhost_user_set_mem_table_postcopy`
/// (`hw/virtio/vhost-user.c`); libvhost-user.
public struct VhostUserFrontend: ~Copyable {
    let connection: VhostUserConnection
    /// The back-end's, between `advise` and `shareMemory`.
    private var userfaultfd: FileDescriptor?
    private var hasListened = false
    /// What the back-end offered at `negotiate`.
    public private(set) var offered = VhostUserFeatures()
    public private(set) var offeredProtocol = VhostUserProtocolFeatures()

    /// As long as a destination waits for a silent source: a page that an answer waits for may be on its
    /// way meanwhile.
    public static let answerNanosecondsMaxDefault: UInt64 = 10_000_000_000

    /// Takes over a connection to the back-end, on a unix socket.
    /// - Parameter answerNanosecondsMax: how long the back-end may take for an answer.
    public init(
        _ socket: consuming StreamSocket,
        answerNanosecondsMax: UInt64 = answerNanosecondsMaxDefault
    ) {
        connection = VhostUserConnection(socket, answerNanosecondsMax: answerNanosecondsMax)
    }

    /// Agrees on features: version 1 of virtio, those of `features` that are offered, and what a
    /// postcopy takes of the protocol.
    /// - Throws: `lacks` for a back-end that cannot go through a postcopy; nothing was set then.
    public mutating func negotiate(
        _ features: VhostUserFeatures = []
    ) throws(VhostUserError) {
        offered = VhostUserFeatures(rawValue: try ask(.getFeatures))
        guard offered.contains(.protocolFeatures) else { throw .lacks("PROTOCOL_FEATURES") }
        offeredProtocol = VhostUserProtocolFeatures(rawValue: try ask(.getProtocolFeatures))
        guard offeredProtocol.contains(.pageFault) else { throw .lacks("PAGEFAULT") }
        guard offeredProtocol.contains(.replyAcknowledgement) else { throw .lacks("REPLY_ACK") }
        guard offered.contains(.version1) else { throw .lacks("VIRTIO_F_VERSION_1") }
        let wanted: VhostUserProtocolFeatures = [.pageFault, .replyAcknowledgement]
        // Sent without asking for a reply, which is agreed on by this.
        try tell(.setProtocolFeatures, wanted.rawValue)
        try tell(.setOwner, [])
        let agreed = features.union([.protocolFeatures, .version1]).intersection(offered)
        try set(.setFeatures, agreed.rawValue)
    }

    /// POSTCOPY_ADVISE: has the back-end open its userfaultfd, which arrives here. Precopy goes on.
    public mutating func advise() throws(VhostUserError) {
        try tell(.postcopyAdvise, [])
        var reply = try connection.receive(replyTo: .postcopyAdvise)
        guard let descriptor = reply.descriptors.takeFirst() else {
            throw .badReply(
                .postcopyAdvise, "no userfaultfd came; it may open none, see what it printed")
        }
        userfaultfd = consume descriptor
    }

    /// POSTCOPY_LISTEN: memory that is shared from here on may miss pages.
    public mutating func listen() throws(VhostUserError) {
        try set(.postcopyListen, [])
        hasListened = true
    }

    /// SET_MEM_TABLE in a postcopy: shares guest memory, learns where the back-end has mapped it, has it
    /// served, and lets the back-end register it for faults.
    ///
    /// - Parameter memory: at most eight runs of blocks that others can map, multiples of pages.
    /// - Parameter attach: serves the client, by `DestinationSession.attach`. If it throws, the back-end is
    ///   left without memory: close the connection.
    /// - Returns: the client that was attached.
    @discardableResult
    public mutating func shareMemory(
        _ memory: [VhostUserMemory],
        attach: (SharedClient) throws(SharedClientError) -> Void
    ) throws(VhostUserError) -> SharedClient {
        guard let faults = userfaultfd.take() else {
            throw .outOfOrder(.setMemoryTable, "advise the back-end of the postcopy first, once")
        }
        guard hasListened else {
            throw .outOfOrder(.setMemoryTable, "let it listen before memory is shared")
        }
        let regions = try exchangeTable(memory)
        let client: SharedClient
        do throws(SharedClientError) {
            client = try SharedClient(userfaultfd: faults, regions: regions)
            try attach(client)
        } catch { throw .client(error) }
        // Any payload but this one says that nobody serves it.
        try tell(.setMemoryTable, 0)
        // Requests are taken in order: the answer to this one says that the memory is registered.
        _ = try ask(.getFeatures)
        client.noteRegistered()
        return client
    }

    /// Sends the table and reads the reply: the same entries with the back-end's addresses.
    private func exchangeTable(
        _ memory: [VhostUserMemory]
    ) throws(VhostUserError) -> [SharedRegion] {
        guard (1...VhostUserTable.entriesMax).contains(memory.count) else {
            throw .memory("\(memory.count) runs; give it 1 to \(VhostUserTable.entriesMax)")
        }
        var files = DescriptorParcel()
        for run in memory {
            let name = run.memory.geometry.name
            guard run.memory.isMappedByOthers else {
                throw .client(.privateMemory(block: name))
            }
            guard run.memory.geometry.contains(start: run.offset, lengthBytes: run.lengthBytes)
            else { throw .memory("a run reaches beyond RAM block '\(name)'") }
            do { try files.add(fileOf: run.memory) } catch { throw .link(.setMemoryTable, error) }
        }
        let sent = memory.map { run in
            VhostUserTableEntry(
                guestPhysicalAddress: run.guestPhysicalAddress, lengthBytes: run.lengthBytes,
                userAddress: run.userAddress, fileOffset: run.offset.rawValue)
        }
        try connection.send(
            .setMemoryTable, VhostUserTable.encode(sent), needsReply: false, files)
        let reply = try connection.receive(replyTo: .setMemoryTable)
        guard let entries = VhostUserTable.decode(reply.payload.span) else {
            throw .badReply(.setMemoryTable, "its \(reply.payload.count) bytes are no table")
        }
        return try regions(memory, sent, entries)
    }

    private func regions(
        _ memory: [VhostUserMemory], _ sent: [VhostUserTableEntry],
        _ entries: [VhostUserTableEntry]
    ) throws(VhostUserError) -> [SharedRegion] {
        guard entries.count == sent.count else {
            throw .badReply(
                .setMemoryTable, "\(entries.count) regions for the \(sent.count) it was sent")
        }
        // It would have to map every run where this process has it.
        guard entries != sent else { return try Self.regions(memory, of: connection.otherProcess) }
        var regions: [SharedRegion] = []
        for (index, (run, entry)) in zip(memory, entries).enumerated() {
            var expected = sent[index]
            expected.userAddress = entry.userAddress
            guard entry == expected else {
                throw .badReply(.setMemoryTable, "region \(index) is not the one it was sent")
            }
            regions.append(
                SharedRegion(
                    address: ClientAddress(rawValue: entry.userAddress),
                    lengthBytes: run.lengthBytes, memory: run.memory, offset: run.offset))
        }
        return regions
    }

    /// Where a process has mapped the files of this memory, by what the kernel lists.
    ///
    /// For back-ends that return the table as it was sent: `vu_set_mem_table_exec` of libvhost-user, as
    /// QEMU 7.2 to 9.0 has it at least, puts its addresses into a copy that it does not send.
    private static func regions(
        _ memory: [VhostUserMemory], of process: Int32?
    ) throws(VhostUserError) -> [SharedRegion] {
        let fault = "it returned the table as it was sent, without its own addresses"
        guard let process else {
            throw .badReply(
                .setMemoryTable,
                "\(fault), and runs where it cannot be looked into: run it in this PID "
                    + "namespace")
        }
        var regions: [SharedRegion] = []
        do throws(Errno) {
            let mappings = try ProcessMappings(of: process)
            for run in memory where !regions.contains(where: { $0.memory === run.memory }) {
                regions += try mappings.runs(of: run.memory).map {
                    SharedRegion(
                        address: $0.address, lengthBytes: $0.lengthBytes, memory: run.memory,
                        offset: $0.offset)
                }
            }
        } catch {
            throw .badReply(
                .setMemoryTable,
                "\(fault), and its mappings cannot be read (\(error)): give this process CAP_SYS_PTRACE"
            )
        }
        for run in memory where !regions.contains(where: { $0.memory === run.memory }) {
            throw .badReply(
                .setMemoryTable,
                "\(fault), and has not mapped RAM block '\(run.memory.geometry.name)'")
        }
        return regions
    }

    /// POSTCOPY_END: every page is here, and the back-end closes its userfaultfd. Once the destination
    /// says so (`Guest.memoryArrived`), or its `run` has returned.
    public mutating func end() throws(VhostUserError) {
        let answer = try ask(.postcopyEnd)
        guard answer == 0 else { throw .refused(.postcopyEnd, answer) }
        hasListened = false
    }
}
