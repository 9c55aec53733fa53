import Glibc
import LinuxKernel
import TestSupport
import Testing
import VhostUser

/// One answer of a back-end that the test writes: bytes, and descriptors with the first of them.
struct Answer: Sendable {
    var bytes: [UInt8]
    /// Each opened when it is sent.
    var descriptors: @Sendable () -> DescriptorParcel = { DescriptorParcel() }

    /// What the specification asks for.
    static func reply(_ request: VhostUserRequest, _ payload: [UInt8]) -> Answer {
        var bytes: [UInt8] = []
        VhostUserHeader(replyTo: request, payloadBytes: payload.count).append(to: &bytes)
        return Answer(bytes: bytes + payload)
    }

    static func number(_ request: VhostUserRequest, _ value: UInt64) -> Answer {
        .reply(request, (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) })
    }

    /// Nothing is said.
    static let silence = Answer(bytes: [])
}

/// A back-end that answers requests, one after the other, with what a test says; those without an answer it
/// only reads. Behind the last answer it closes, unless it is to stay.
struct ScriptedBackend {
    private let thread: Bounded<[UInt32]>
    /// The front-end's end of the connection.
    let socket: Handover<StreamSocket>

    /// - Parameter answers: by the request that each belongs to; a request that comes again takes the next.
    /// - Parameter ends: raised when it is to close.
    init(_ answers: [(VhostUserRequest, Answer)], until ends: EventFlag? = nil) throws {
        let path = "/tmp/postcopy-vhost-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        let listener = try Listener(at: .unix(path: path))
        socket = Handover(try StreamSocket.connect(to: listener.address))
        let place = Handover(try listener.accept())
        thread = try Bounded("backend") { Self.answer(place.take(), answers, ends) }
    }

    private static func answer(
        _ socket: consuming StreamSocket, _ answers: [(VhostUserRequest, Answer)],
        _ ends: EventFlag?
    ) -> [UInt32] {
        socket.limitWaits(nanoseconds: 20_000_000_000)
        var left = answers
        var heard: [UInt32] = []
        while !left.isEmpty, let request = next(on: socket) {
            heard.append(request)
            guard let place = left.firstIndex(where: { $0.0.rawValue == request }) else { continue }
            let (_, answer) = left.remove(at: place)
            if !answer.bytes.isEmpty {
                try? socket.send(answer.bytes.span, answer.descriptors())
            }
        }
        _ = ends?.wait(timeoutNanoseconds: 20_000_000_000)
        return heard
    }

    /// Reads a request; answers its number.
    private static func next(on socket: borrowing StreamSocket) -> UInt32? {
        var descriptors = DescriptorParcel()
        func read(_ count: Int, _ descriptors: inout DescriptorParcel) -> [UInt8]? {
            var bytes: [UInt8] = []
            while bytes.count < count {
                let received = try? socket.receive(
                    upTo: count - bytes.count, into: &bytes, &descriptors)
                guard let received, received > 0 else { return nil }
            }
            return bytes
        }
        guard let bytes = read(VhostUserHeader.wireBytes, &descriptors) else { return nil }
        let header = VhostUserHeader(bytes.span)
        guard read(Int(header.payloadBytes), &descriptors) != nil else { return nil }
        return header.request
    }

    /// The requests that it heard, or `nil` when it hangs.
    func heard() -> [UInt32]? { thread.output() }
}

extension [(VhostUserRequest, Answer)] {
    /// A back-end that takes part in a postcopy.
    static var agreeing: Self {
        [
            (.getFeatures, .number(.getFeatures, 1 << 30 | 1 << 32 | 1 << 5)),
            (.getProtocolFeatures, .number(.getProtocolFeatures, 1 << 8 | 1 << 3 | 1)),
            (.setFeatures, .number(.setFeatures, 0)),
        ]
    }

    /// The same, up to the table, with a userfaultfd of this process.
    static func advised(
        _ descriptors: @escaping @Sendable () -> DescriptorParcel
    ) -> Self {
        var advise = Answer.reply(.postcopyAdvise, [])
        advise.descriptors = descriptors
        return agreeing + [
            (.postcopyAdvise, advise), (.postcopyListen, .number(.postcopyListen, 0)),
        ]
    }
}
