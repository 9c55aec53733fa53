public import LinuxKernel

extension FirecrackerHandOff {
    /// Firecracker sends as soon as it has connected; what is slower is none.
    public static let nanosecondsMax: UInt64 = 10_000_000_000

    /// Receives the message of a client that has connected. Nothing is answered, as Firecracker expects.
    ///
    /// Blocking: until the message is whole.
    /// - Parameters:
    ///   - contentBytes: how much there is to serve: no region may reach beyond it.
    ///   - stop: ends the wait when it is raised.
    /// - Returns: the memory that the message describes, by the userfaultfd that came along; `nil` once
    ///   `stop` was raised and no more of the message was there.
    /// - Throws: `HandOffError`; then whatever came is closed.
    public static func receive(
        from socket: borrowing StreamSocket, contentBytes: UInt64,
        within nanoseconds: UInt64 = nanosecondsMax, unless stop: EventFlag
    ) throws(HandOffError) -> ForeignMemory? {
        let deadline = Monotonic.deadline(afterNanoseconds: nanoseconds)
        var poller = Poller(capacity: 2)
        let input = poller.watch(socket)
        let stopping = poller.watch(stop)
        var message: [UInt8] = []
        var parcel = DescriptorParcel()
        while true {
            let now = Monotonic.now()
            guard now < deadline else {
                throw .silent(
                    afterBytes: message.count, milliseconds: nanoseconds / 1_000_000)
            }
            _ = poller.wait(timeoutNanoseconds: deadline - now)
            guard poller.isReady(input) else {
                // Whoever has handed over waits in its pages, and must hear that nobody serves them.
                if poller.isReady(stopping) { return nil }
                continue
            }
            guard try receiveMore(from: socket, into: &message, &parcel) else { continue }
            guard let handOff = try whole(message) else { continue }
            try handOff.check(contentBytes: contentBytes)
            return try finish(handOff, &parcel)
        }
    }

    /// Receives what is there; `false` when nothing is.
    private static func receiveMore(
        from socket: borrowing StreamSocket, into message: inout [UInt8],
        _ parcel: inout DescriptorParcel
    ) throws(HandOffError) -> Bool {
        let count: Int?
        do throws(Errno) {
            // One byte more than may come shows that there is too much.
            count = try socket.receive(
                upTo: bytesMax + 1 - message.count, into: &message, &parcel, wait: false)
        } catch { throw .link(error) }
        guard let count else { return false }
        guard count > 0 else { throw .ended(afterBytes: message.count) }
        guard message.count <= bytesMax else { throw .tooLong(maximum: bytesMax) }
        guard parcel.count <= 1 else { throw .tooManyDescriptors(parcel.count) }
        return true
    }

    /// The message, or `nil` while more of it is due: an array is whole with its last bracket.
    private static func whole(_ message: [UInt8]) throws(HandOffError) -> FirecrackerHandOff? {
        let blanks: Set<UInt8> = [0x20, 0x09, 0x0a, 0x0d]
        guard let first = message.first(where: { !blanks.contains($0) }) else { return nil }
        if first == UInt8(ascii: "[") {
            // Whatever comes in pieces is read once, and not anew with each piece.
            let last = message.last { !blanks.contains($0) }
            guard last == UInt8(ascii: "]") else { return nil }
        }
        do throws(HandOffError) { return try FirecrackerHandOff(parsing: message) } catch {
            if case .notJSON(_, isTruncated: true) = error { return nil }
            throw error
        }
    }

    private static func finish(
        _ handOff: FirecrackerHandOff, _ parcel: inout DescriptorParcel
    ) throws(HandOffError) -> ForeignMemory {
        guard let descriptor = parcel.takeFirst() else { throw .noDescriptor }
        do throws(ForeignMemoryError) {
            return try ForeignMemory(userfaultfd: descriptor, regions: handOff.descriptions)
        } catch { throw .memory(error) }
    }
}
