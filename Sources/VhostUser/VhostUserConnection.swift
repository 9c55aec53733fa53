internal import LinuxKernel

/// A front-end's connection to one back-end: requests out, replies in, one at a time.
struct VhostUserConnection: ~Copyable {
    private let socket: StreamSocket
    private let answerNanosecondsMax: UInt64

    /// A payload that somebody sends takes no more memory than this: that of the largest reply that is
    /// asked for, and the padding of back-ends that reply with what they were sent.
    private static let payloadBytesMax = 4_096

    struct Reply: ~Copyable {
        let payload: [UInt8]
        var descriptors: DescriptorParcel
    }

    init(_ socket: consuming StreamSocket, answerNanosecondsMax: UInt64) {
        self.socket = socket
        self.answerNanosecondsMax = answerNanosecondsMax
        // A back-end that reads nothing must not hold the caller.
        self.socket.limitWaits(nanoseconds: answerNanosecondsMax)
    }

    var otherProcess: Int32? { socket.otherProcess }

    func send(
        _ request: VhostUserRequest, _ payload: [UInt8], needsReply: Bool,
        _ descriptors: borrowing DescriptorParcel
    ) throws(VhostUserError) {
        var bytes: [UInt8] = []
        VhostUserHeader(request, payloadBytes: payload.count, needsReply: needsReply)
            .append(to: &bytes)
        bytes += payload
        do { try socket.send(bytes.span, descriptors) } catch .again {
            throw timeOut(request)
        } catch .brokenPipe {
            throw .closed(request)
        } catch { throw .link(request, error) }
    }

    /// Receives the reply to the request that was sent last.
    func receive(replyTo request: VhostUserRequest) throws(VhostUserError) -> Reply {
        let deadline = Monotonic.deadline(afterNanoseconds: answerNanosecondsMax)
        var descriptors = DescriptorParcel()
        let bytes = try receive(
            VhostUserHeader.wireBytes, of: request, by: deadline, &descriptors)
        let header = VhostUserHeader(bytes.span)
        guard header.hasKnownVersion, header.isReply else {
            throw .badReply(request, "flags \(header.flags) are not those of a reply")
        }
        guard header.request == request.rawValue else {
            throw .badReply(request, "a reply to request \(header.request)")
        }
        guard header.payloadBytes <= Self.payloadBytesMax else {
            throw .badReply(request, "a payload of \(header.payloadBytes) bytes")
        }
        let payload = try receive(
            Int(header.payloadBytes), of: request, by: deadline, &descriptors)
        return Reply(payload: payload, descriptors: descriptors)
    }

    private func receive(
        _ count: Int, of request: VhostUserRequest, by deadline: UInt64,
        _ descriptors: inout DescriptorParcel
    ) throws(VhostUserError) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            var poller = Poller(capacity: 1)
            poller.watch(socket)
            let now = Monotonic.now()
            guard now < deadline, poller.wait(timeoutNanoseconds: deadline - now) > 0 else {
                throw timeOut(request)
            }
            let received: Int?
            do {
                received = try socket.receive(
                    upTo: count - bytes.count, into: &bytes, &descriptors, wait: false)
            } catch .connectionReset {
                throw .closed(request)
            } catch { throw .link(request, error) }
            if received == 0 { throw .closed(request) }
            // No reply has more; each byte could bring hundreds.
            guard descriptors.count <= 1 else {
                throw .badReply(request, "\(descriptors.count) descriptors, and one at most is due")
            }
        }
        return bytes
    }

    private func timeOut(_ request: VhostUserRequest) -> VhostUserError {
        .timedOut(request, milliseconds: answerNanosecondsMax / 1_000_000)
    }
}
