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
        var brackets = BracketCount()
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
            brackets.count(message)
            guard brackets.isWhole, let handOff = try whole(message) else { continue }
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

    /// The message, or `nil` while more of it is due.
    private static func whole(_ message: [UInt8]) throws(HandOffError) -> FirecrackerHandOff? {
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

/// Finds out whether a message may be whole, each byte once: what comes in pieces is not to be parsed anew
/// with each of them.
private struct BracketCount {
    private var counted = 0
    /// How many brackets and braces are open.
    private var depth = 0
    private var isInString = false
    private var isEscaped = false
    private var first: UInt8?
    private var last: UInt8?

    /// What nests deeper is refused by `JSONValue`, however it goes on.
    private static let depthMax = 16
    private static let blanks: [UInt8] = [0x20, 0x09, 0x0a, 0x0d]

    /// Whether there is something to parse: what may be whole, or is refused for its depth.
    var isWhole: Bool {
        guard let first, !isInString else { return false }
        let isArray = first == UInt8(ascii: "[")
        guard !isArray || last == UInt8(ascii: "]") else { return false }
        return depth <= 0 || depth > Self.depthMax
    }

    /// Goes on with what came since the last time.
    mutating func count(_ message: [UInt8]) {
        for byte in message[counted...] where !Self.blanks.contains(byte) { take(byte) }
        counted = message.count
    }

    private mutating func take(_ byte: UInt8) {
        if first == nil { first = byte }
        last = byte
        if isInString {
            isInString = isEscaped || byte != UInt8(ascii: "\"")
            isEscaped = !isEscaped && byte == UInt8(ascii: "\\")
            return
        }
        switch byte {
        case UInt8(ascii: "\""): isInString = true
        case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
        case UInt8(ascii: "]"), UInt8(ascii: "}"): depth -= 1
        default: break
        }
    }
}
