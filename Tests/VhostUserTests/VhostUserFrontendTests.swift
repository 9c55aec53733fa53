import CShims
import LinuxKernel
import PageModel
import PostcopyRuntime
import TestSupport
import Testing
import VhostUser

@Suite("VhostUserFrontend")
struct VhostUserFrontendTests {
    /// Runs `body` against a back-end of these answers; answers what it threw.
    /// - Parameter patience: how long an answer may take; then the back-end stays where it is.
    private static func refusal(
        _ answers: [(VhostUserRequest, Answer)], patience: UInt64? = nil,
        _ body: (inout VhostUserFrontend) throws(VhostUserError) -> Void
    ) throws -> VhostUserError? {
        let ends = try EventFlag()
        if patience == nil { ends.raise() }
        let backend = try ScriptedBackend(answers, until: ends)
        var refusal: VhostUserError?
        do {
            var frontend = VhostUserFrontend(
                backend.socket.take(), answerNanosecondsMax: patience ?? 20_000_000_000)
            do throws(VhostUserError) { try body(&frontend) } catch { refusal = error }
            ends.raise()
        }
        let heard = backend.heard()
        #expect(heard != nil, "the back-end hangs")
        return refusal
    }

    @Test("a back-end that takes part is agreed with, and one that lacks a part is refused by name")
    func negotiates() throws {
        let backend = try ScriptedBackend(.agreeing)
        var frontend = VhostUserFrontend(backend.socket.take())
        try frontend.negotiate(VhostUserFeatures(rawValue: 1 << 5 | 1 << 6))
        #expect(frontend.offered.rawValue == 1 << 30 | 1 << 32 | 1 << 5)
        #expect(backend.heard() == [1, 15, 16, 3, 2])
        let lacking: [(UInt64, UInt64, String)] = [
            (1 << 32, 1 << 8 | 1 << 3, "PROTOCOL_FEATURES"),
            (1 << 30 | 1 << 32, 1 << 3, "PAGEFAULT"),
            (1 << 30 | 1 << 32, 1 << 8, "REPLY_ACK"),
            (1 << 30, 1 << 8 | 1 << 3, "VIRTIO_F_VERSION_1"),
        ]
        for (features, protocolFeatures, name) in lacking {
            let error = try Self.refusal([
                (.getFeatures, .number(.getFeatures, features)),
                (.getProtocolFeatures, .number(.getProtocolFeatures, protocolFeatures)),
            ]) { frontend throws(VhostUserError) in try frontend.negotiate() }
            #expect(error == .lacks(name))
        }
    }

    /// Replies to GET_FEATURES that are none, and what is said of them.
    private static let badReplies: [(bytes: [UInt8], word: String)] = [
        ([1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0] + eight, "flags 1"),
        ([1, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0] + eight, "flags 6"),
        ([2, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0] + eight, "a reply to request 2"),
        ([255, 255, 255, 255, 5, 0, 0, 0, 8, 0, 0, 0] + eight, "a reply to request 4294967295"),
        ([1, 0, 0, 0, 5, 0, 0, 0, 255, 255, 255, 255], "a payload of 4294967295 bytes"),
        ([1, 0, 0, 0, 5, 0, 0, 0, 1, 16, 0, 0], "a payload of 4097 bytes"),
        ([1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], "a payload of 0 bytes, not 8"),
        ([1, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0] + eight.dropLast(), "a payload of 7 bytes, not 8"),
    ]
    private static let eight: [UInt8] = Array(repeating: 0, count: 8)

    @Test("a reply that breaks the protocol is an error that says how", arguments: 0..<8)
    func badReply(index: Int) throws {
        let (bytes, word) = Self.badReplies[index]
        let error = try Self.refusal([(.getFeatures, Answer(bytes: bytes))]) {
            frontend throws(VhostUserError) in try frontend.negotiate()
        }
        guard case .badReply(.getFeatures, let reason) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains(word))
    }

    @Test(
        "silence has a limit, in the middle of a reply too, and an end is told",
        arguments: [0, 5, 14])
    func silence(count: Int) throws {
        let whole = Answer.number(.getFeatures, 0).bytes
        let part = Answer(bytes: Array(whole.prefix(count)))
        let late = try Self.refusal([(.getFeatures, part)], patience: 200_000_000) {
            frontend throws(VhostUserError) in try frontend.negotiate()
        }
        #expect(late == .timedOut(.getFeatures, milliseconds: 200))
        let ended = try Self.refusal([(.getFeatures, part)]) {
            frontend throws(VhostUserError) in try frontend.negotiate()
        }
        #expect(ended == .closed(.getFeatures))
    }

    @Test("what a back-end refuses is told")
    func refused() throws {
        var answers: [(VhostUserRequest, Answer)] = .agreeing
        answers.append((.postcopyListen, .number(.postcopyListen, .max)))
        answers.append((.postcopyEnd, .number(.postcopyEnd, 7)))
        let error = try Self.refusal(answers) { frontend throws(VhostUserError) in
            try frontend.negotiate()
            var refusal: VhostUserError?
            do throws(VhostUserError) { try frontend.listen() } catch { refusal = error }
            #expect(refusal == .refused(.postcopyListen, .max))
            try frontend.end()
        }
        #expect(error == .refused(.postcopyEnd, 7))
    }

    private static func parcel(
        _ fill: (inout DescriptorParcel) throws -> Void
    ) -> DescriptorParcel {
        var parcel = DescriptorParcel()
        do { try fill(&parcel) } catch { Issue.record("\(error)") }
        return parcel
    }

    private static let userfaultfds: @Sendable () -> DescriptorParcel = {
        parcel { parcel in
            let uffd = try Userfaultfd.open(.userOnly)
            try parcel.add(uffd)
        }
    }

    private static func memory(_ backing: RAMBacking, pages: UInt64 = 16) throws -> GuestRAM {
        try GuestRAM(
            BlockGeometry(
                name: "ram", lengthBytes: pages << 12, hostPage: HostMemory.pageSize),
            backing: backing, guestPhysicalAddress: 1 << 32)
    }

    /// Goes as far as the table.
    private static func share(
        _ memory: [VhostUserMemory], _ answers: [(VhostUserRequest, Answer)]
    ) throws -> VhostUserError? {
        try refusal(answers) { frontend throws(VhostUserError) in
            try frontend.negotiate()
            try frontend.advise()
            try frontend.listen()
            try frontend.shareMemory(memory) { _ in }
        }
    }

    @Test("a descriptor that is missing, or no userfaultfd that works, is refused")
    func descriptors() throws {
        let ram = try Self.memory(.memfd)
        let run = VhostUserMemory(ram)
        let entry = VhostUserTableEntry(
            guestPhysicalAddress: 1 << 32, lengthBytes: 16 << 12, userAddress: 1 << 40,
            fileOffset: 0)
        let table = (
            VhostUserRequest.setMemoryTable,
            Answer.reply(.setMemoryTable, VhostUserTable.encode([entry]))
        )
        let none = try Self.share([run], .advised { DescriptorParcel() } + [table])
        guard case .badReply(.postcopyAdvise, _) = none else {
            Issue.record("\(String(describing: none))")
            return
        }
        let event = try Self.share(
            [run], .advised { Self.parcel { try $0.add(EventFlag()) } } + [table])
        #expect(event == .client(.descriptor(.otherDescriptor("anon_inode:[eventfd]"))))
        let raw = try Self.share(
            [run],
            .advised {
                Self.parcel {
                    try $0.add(FileDescriptor(owning: pc_uffd_open_syscall(1)))
                }
            } + [table])
        #expect(raw == .client(.descriptor(.notInitialized(.invalidArgument))))
    }

    @Test("more descriptors than one are refused", arguments: [1, 250])
    func tooManyDescriptors(extra: Int) throws {
        let error = try Self.refusal(
            .advised {
                Self.parcel { parcel in
                    let uffd = try Userfaultfd.open(.userOnly)
                    try parcel.add(uffd)
                    let flag = try EventFlag()
                    for _ in 0..<extra { try parcel.add(flag) }
                }
            }
        ) { frontend throws(VhostUserError) in
            try frontend.negotiate()
            try frontend.advise()
        }
        #expect(
            error
                == .badReply(
                    .postcopyAdvise, "\(extra + 1) descriptors, and one at most is due"))
    }

    /// What a back-end does to the table that it was sent.
    private static let badTables: [@Sendable (inout [VhostUserTableEntry]) -> Void] = [
        { $0[0].guestPhysicalAddress += 1 << 12 }, { $0[0].lengthBytes -= 1 << 12 },
        { $0[1].lengthBytes = .max }, { $0[0].fileOffset += 1 }, { $0.removeLast() },
        { $0.append($0[0]) }, { $0.removeAll() },
        { $0[0].userAddress += 1 }, { $0[0].userAddress = .max }, { $0[0].userAddress = 1 << 63 },
        { $0[1].userAddress = $0[0].userAddress }, { $0[1].userAddress = (1 << 63) - (1 << 12) },
    ]

    @Test("a table that is not the one it was sent, or cannot be, is refused", arguments: 0..<12)
    func badTable(index: Int) throws {
        let ram = try Self.memory(.memfd)
        let runs = [UInt64(0), 8].map { page in
            VhostUserMemory(
                guestPhysicalAddress: 1 << 32 + page << 12, memory: ram,
                offset: RAMOffset(rawValue: page << 12), lengthBytes: 8 << 12)
        }
        var entries = runs.enumerated().map { index, run in
            VhostUserTableEntry(
                guestPhysicalAddress: run.guestPhysicalAddress, lengthBytes: run.lengthBytes,
                userAddress: UInt64(index + 1) << 40, fileOffset: run.offset.rawValue)
        }
        Self.badTables[index](&entries)
        let guest = BareGuest([ram])
        let session = try DestinationSession(guest: guest, options: MigrationOptions())
        let reply = Answer.reply(.setMemoryTable, VhostUserTable.encode(entries))
        let answers =
            [(VhostUserRequest, Answer)].advised(Self.userfaultfds) + [(.setMemoryTable, reply)]
        let error = try Self.refusal(answers) { frontend throws(VhostUserError) in
            try frontend.negotiate()
            try frontend.advise()
            try frontend.listen()
            try frontend.shareMemory(runs) { client throws(SharedClientError) in
                try session.attach(client)
            }
        }
        switch error {
        case .badReply(.setMemoryTable, _): #expect(index < 7)
        case .client(.table), .client(.descriptor): #expect(index >= 7)
        default: Issue.record("\(String(describing: error))")
        }
    }

    @Test("bytes that are no table are refused, cut anywhere or with a number that cannot be")
    func noTable() throws {
        let entry = VhostUserTableEntry(
            guestPhysicalAddress: 1, lengthBytes: 2, userAddress: 3, fileOffset: 4)
        for count in 0...8 {
            let entries = Array(repeating: entry, count: count)
            let bytes = VhostUserTable.encode(entries)
            #expect(VhostUserTable.decode(bytes.span) == entries)
            #expect(VhostUserTable.decode((bytes + [1, 2, 3]).span) == entries)
            for length in 0..<bytes.count {
                #expect(VhostUserTable.decode(Array(bytes[..<length]).span) == nil)
            }
        }
        let nine = VhostUserTable.encode(Array(repeating: entry, count: 9))
        #expect(VhostUserTable.decode(nine.span) == nil)
        var random = SeededRandom(seed: 3)
        for _ in 0..<20_000 {
            var bytes = VhostUserTable.encode(Array(repeating: entry, count: random.below(9)))
            Damage.strike(&bytes, at: bytes.indices, joining: [], with: &random)
            _ = VhostUserTable.decode(bytes.span)
        }
    }

    @Test("memory that nobody can share, or too many runs of it, is refused before it is sent")
    func memory() throws {
        let shared = try Self.memory(.memfd)
        let answers = [(VhostUserRequest, Answer)].advised(Self.userfaultfds)
        let own = try Self.share([VhostUserMemory(try Self.memory(.anonymous))], answers)
        #expect(own == .client(.privateMemory(block: "ram")))
        for count in [0, 9] {
            let runs = Array(repeating: VhostUserMemory(shared), count: count)
            guard case .memory = try Self.share(runs, answers) else {
                Issue.record("\(count) runs were taken")
                continue
            }
        }
        let beyond = VhostUserMemory(
            guestPhysicalAddress: 0, memory: shared, offset: RAMOffset(rawValue: 1 << 12),
            lengthBytes: 16 << 12)
        guard case .memory = try Self.share([beyond], answers) else {
            Issue.record("a run beyond its block was taken")
            return
        }
        let early = try Self.refusal(.agreeing) { frontend throws(VhostUserError) in
            try frontend.negotiate()
            try frontend.shareMemory([VhostUserMemory(shared)]) { _ in }
        }
        guard case .outOfOrder(.setMemoryTable, _) = early else {
            Issue.record("\(String(describing: early))")
            return
        }
    }
}

/// A guest that is its memory.
private final class BareGuest: Guest {
    let machineType = "bare-1"
    let memory: [GuestRAM]
    let vcpuThreads: [Int32] = []
    let faultOrigin = FaultOrigin.userOnly

    init(_ memory: [GuestRAM]) { self.memory = memory }

    func pause() {}
    func resume() {}
    func saveDevices() -> [UInt8] { [] }
    func loadDevices(_ sections: [UInt8]) throws(GuestError) {}
}
