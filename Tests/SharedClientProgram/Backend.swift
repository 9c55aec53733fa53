import LinuxKernel
import PageModel
import VhostUser

/// The back-end's side of one connection.
struct Backend: ~Copyable {
    private let socket: StreamSocket
    private let seed: UInt64
    private let threadCount: Int
    private let faultsBesideTable: Bool
    private var userfaultfd: Userfaultfd?
    private var regions: [MappedRegion] = []

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    init(
        _ socket: consuming StreamSocket, seed: UInt64, threadCount: Int, faultsBesideTable: Bool
    ) {
        self.socket = socket
        self.seed = seed
        self.threadCount = threadCount
        self.faultsBesideTable = faultsBesideTable
    }

    private struct Message: ~Copyable {
        let header: VhostUserHeader
        let payload: [UInt8]
        var descriptors: DescriptorParcel

        var request: VhostUserRequest? { VhostUserRequest(rawValue: header.request) }
    }

    /// Answers requests until the front-end closes.
    mutating func serve() throws {
        while var message = try receive() {
            let answer = try obey(&message)
            guard let request = message.request else { continue }
            if let answer {
                try send(request, answer)
            } else if message.header.asksForReply {
                try send(request, number(0))
            }
        }
    }

    /// Does what is asked; answers the payload of a reply that the request has by itself.
    private mutating func obey(_ message: inout Message) throws -> [UInt8]? {
        switch message.request {
        case .getFeatures:
            return number(
                VhostUserFeatures([.protocolFeatures, .version1]).rawValue)
        case .getProtocolFeatures:
            return number(
                VhostUserProtocolFeatures([.pageFault, .replyAcknowledgement]).rawValue)
        case .postcopyAdvise:
            try advise()
            return nil
        case .setMemoryTable:
            try take(&message)
            return nil
        case .setRingEnabled:
            Toucher.start(regions, seed: seed, threadCount: threadCount)
            return nil
        case .postcopyEnd:
            userfaultfd = nil
            return number(0)
        case .getRingBase: return message.payload
        default: return nil
        }
    }

    private mutating func advise() throws {
        let opened = try Userfaultfd.open(.userAndKernel)
        var parcel = DescriptorParcel()
        try parcel.add(opened)
        userfaultfd = consume opened
        var bytes: [UInt8] = []
        VhostUserHeader(replyTo: .postcopyAdvise, payloadBytes: 0).append(to: &bytes)
        try socket.send(bytes.span, parcel)
    }

    /// The table, and behind the reply to it the word that somebody serves its pages.
    private mutating func take(_ message: inout Message) throws {
        if message.payload == number(0) { return try register() }
        guard let entries = VhostUserTable.decode(message.payload.span) else {
            throw Failure(description: "no table")
        }
        for entry in entries {
            guard let file = message.descriptors.takeFirst() else {
                throw Failure(description: "a region without its file")
            }
            regions.append(try MappedRegion(entry, of: file))
        }
        var reply = entries
        for (index, region) in regions.enumerated() { reply[index].userAddress = region.address }
        try send(.setMemoryTable, VhostUserTable.encode(reply))
    }

    private mutating func register() throws {
        for region in regions { try userfaultfd?.register(region.memory) }
        guard faultsBesideTable else { return }
        let geometry = try BlockGeometry(
            name: "beside", lengthBytes: HostMemory.pageSize.bytes, hostPage: HostMemory.pageSize)
        let beside = try GuestRAM(geometry, backing: .memfd)
        try userfaultfd?.register(beside)
        Toucher.touch(beside)
    }

    private func number(_ value: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }

    private func send(_ request: VhostUserRequest, _ payload: [UInt8]) throws(Errno) {
        var bytes: [UInt8] = []
        VhostUserHeader(replyTo: request, payloadBytes: payload.count).append(to: &bytes)
        bytes += payload
        try socket.send(bytes.span)
    }

    private func receive() throws -> Message? {
        var descriptors = DescriptorParcel()
        let bytes = try receive(VhostUserHeader.wireBytes, &descriptors)
        guard bytes.count == VhostUserHeader.wireBytes else { return nil }
        let header = VhostUserHeader(bytes.span)
        guard header.payloadBytes <= 4_096 else { throw Failure(description: "a long payload") }
        let payload = try receive(Int(header.payloadBytes), &descriptors)
        return Message(header: header, payload: payload, descriptors: descriptors)
    }

    private func receive(
        _ count: Int, _ descriptors: inout DescriptorParcel
    ) throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let received = try socket.receive(
                upTo: count - bytes.count, into: &bytes, &descriptors)
            if received == 0 { break }
        }
        return bytes
    }
}

/// A region of the table: its file is mapped from the beginning, as libvhost-user does it.
struct MappedRegion: Sendable {
    let memory: GuestRAM
    let offset: UInt64
    let guestPhysicalAddress: UInt64

    init(_ entry: VhostUserTableEntry, of file: borrowing FileDescriptor) throws {
        let length = entry.fileOffset + entry.lengthBytes
        let small = try BlockGeometry(
            name: "region", lengthBytes: length, hostPage: HostMemory.pageSize)
        if let mapped = try? GuestRAM(small, sharing: file) {
            memory = mapped
        } else {
            memory = try GuestRAM(
                BlockGeometry(name: "region", lengthBytes: length, hostPage: .size2MiB),
                sharing: file)
        }
        memory.avoidHugePages()
        offset = entry.fileOffset
        guestPhysicalAddress = entry.guestPhysicalAddress
    }

    var address: UInt64 { memory.address.rawValue + offset }

    var pageCount: Int { Int((memory.geometry.lengthBytes - offset) >> 12) }
}
