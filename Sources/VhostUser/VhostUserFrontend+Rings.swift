public import LinuxKernel
internal import PageModel

/// Where the parts of a split virtqueue are, in guest memory that was shared.
public struct VhostUserRing: Sendable {
    /// How many descriptors it has.
    public let size: UInt32
    /// Addresses of this process: `GuestRAM.address` and an offset.
    public let descriptors: UInt64
    public let available: UInt64
    public let used: UInt64
    /// The next entry of the available ring that the back-end takes.
    public let base: UInt32

    public init(
        size: UInt32, descriptors: UInt64, available: UInt64, used: UInt64, base: UInt32 = 0
    ) {
        self.size = size
        self.descriptors = descriptors
        self.available = available
        self.used = used
        self.base = base
    }
}

// Virtqueues.
extension VhostUserFrontend {
    /// Starts a ring. The back-end may touch its memory at once, and waits for missing pages.
    /// - Parameter kick: raised by the guest's side when there is something to do.
    /// - Parameter call: raised by the back-end when something is done.
    public mutating func startRing(
        _ index: UInt32, _ ring: VhostUserRing, kick: EventFlag, call: EventFlag
    ) throws(VhostUserError) {
        try set(.setRingSize, index, ring.size)
        try set(.setRingBase, index, ring.base)
        var addresses: [UInt8] = []
        addresses.append(number: index)
        addresses.append(number: UInt32(0))
        for address in [ring.descriptors, ring.used, ring.available, 0] {
            addresses.append(number: address)
        }
        try set(.setRingAddresses, addresses)
        try set(.setRingCall, index, call)
        try set(.setRingKick, index, kick)
        try set(.setRingEnabled, index, 1)
    }

    /// Stops a ring; answers the next entry of the available ring that was not taken.
    public mutating func stopRing(_ index: UInt32) throws(VhostUserError) -> UInt32 {
        var payload: [UInt8] = []
        payload.append(number: index)
        payload.append(number: UInt32(0))
        try tell(.getRingBase, payload)
        let reply = try connection.receive(replyTo: .getRingBase)
        guard reply.payload.count == 8 else {
            throw .badReply(.getRingBase, "a payload of \(reply.payload.count) bytes, not 8")
        }
        let bytes = reply.payload.span
        let answered: UInt32 = bytes.number(at: 0)
        guard answered == index else { throw .badReply(.getRingBase, "ring \(answered)") }
        return bytes.number(at: 4)
    }

    private func set(
        _ request: VhostUserRequest, _ index: UInt32, _ value: UInt32
    ) throws(VhostUserError) {
        var payload: [UInt8] = []
        payload.append(number: index)
        payload.append(number: value)
        try set(request, payload)
    }

    private func set(
        _ request: VhostUserRequest, _ index: UInt32, _ flag: EventFlag
    ) throws(VhostUserError) {
        var payload: [UInt8] = []
        payload.append(number: UInt64(index))
        var descriptors = DescriptorParcel()
        do { try descriptors.add(flag) } catch { throw .link(request, error) }
        try set(request, payload, descriptors)
    }
}

// Requests by what they answer.
extension VhostUserFrontend {
    /// Asks for a number.
    func ask(_ request: VhostUserRequest) throws(VhostUserError) -> UInt64 {
        try tell(request, [])
        return try number(replyTo: request)
    }

    /// Sends a request that has no reply.
    func tell(_ request: VhostUserRequest, _ payload: [UInt8]) throws(VhostUserError) {
        try connection.send(request, payload, needsReply: false, DescriptorParcel())
    }

    func tell(_ request: VhostUserRequest, _ value: UInt64) throws(VhostUserError) {
        var payload: [UInt8] = []
        payload.append(number: value)
        try tell(request, payload)
    }

    /// Sends a request and waits until it was done.
    func set(_ request: VhostUserRequest, _ payload: [UInt8]) throws(VhostUserError) {
        try set(request, payload, DescriptorParcel())
    }

    func set(_ request: VhostUserRequest, _ value: UInt64) throws(VhostUserError) {
        var payload: [UInt8] = []
        payload.append(number: value)
        try set(request, payload)
    }

    private func set(
        _ request: VhostUserRequest, _ payload: [UInt8],
        _ descriptors: borrowing DescriptorParcel
    ) throws(VhostUserError) {
        try connection.send(request, payload, needsReply: true, descriptors)
        let answer = try number(replyTo: request)
        guard answer == 0 else { throw .refused(request, answer) }
    }

    private func number(replyTo request: VhostUserRequest) throws(VhostUserError) -> UInt64 {
        let reply = try connection.receive(replyTo: request)
        guard reply.payload.count == 8 else {
            throw .badReply(request, "a payload of \(reply.payload.count) bytes, not 8")
        }
        return reply.payload.span.number(at: 0)
    }
}
