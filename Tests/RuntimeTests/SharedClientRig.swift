import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import TestWorkload
import Testing
import VhostUser

/// A migration to a guest that shares its memory with a process that we wrote, over a link that may
/// break.
final class SharedClientRig: Sendable {
    static let seed: UInt64 = 7

    let source: ModelGuest
    let destination: ModelGuest
    let session: DestinationSession
    let sending: SourceSession
    let proxy: BreakingProxy
    let process: ClientProcess
    private let frontend: Mutex<Frontend>
    private let attached = Mutex<SharedClient?>(nil)
    private let listener: Handover<Listener>

    /// A place for a value that cannot be copied.
    private struct Frontend: ~Copyable {
        var value: VhostUserFrontend?
    }

    /// A block by its length in bytes, made for the destination.
    typealias Block = (lengthBytes: UInt64, hostPage: PageSize)

    /// - Parameter make: makes the destination's block.
    /// - Parameter regions: what the client is given of the destination's memory.
    init(
        _ blocks: [Block], options: MigrationOptions, vcpuCount: Int = 2, clientThreads: Int = 4,
        breaks: [Break] = [], clientOptions: [String] = [],
        make: (BlockGeometry, UInt64) throws -> GuestRAM = {
            try GuestRAM($0, backing: .memfd, guestPhysicalAddress: $1)
        },
        regions: @escaping @Sendable ([GuestRAM]) -> [VhostUserMemory] = {
            $0.map { VhostUserMemory($0) }
        }
    ) throws {
        var (from, to): ([GuestRAM], [GuestRAM]) = ([], [])
        for (index, block) in blocks.enumerated() {
            let address = UInt64(index + 1) << 32
            let geometry = try BlockGeometry(
                name: "b\(index)", lengthBytes: block.lengthBytes, hostPage: block.hostPage)
            from.append(
                try GuestRAM(
                    geometry, backing: .anonymous, guestPhysicalAddress: address,
                    allowsLargerHostPages: true))
            to.append(try make(geometry, address))
        }
        source = ModelGuest(from, seed: Self.seed)
        destination = ModelGuest(to, seed: Self.seed, vcpuCount: vcpuCount)
        source.fill()
        process = try ClientProcess(
            seed: Self.seed, threadCount: clientThreads, clientOptions.joined())
        var frontend = VhostUserFrontend(try process.connect())
        try frontend.negotiate()
        self.frontend = Mutex(Frontend(value: consume frontend))
        session = try DestinationSession(guest: destination, options: options)
        sending = try SourceSession(guest: source, options: options)
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        proxy = try BreakingProxy(to: listener.address, plan: breaks)
        self.listener = Handover(listener)
        destination.whenLoaded { [unowned self] in try share(regions) }
    }

    /// The client's, once it was attached.
    var client: SharedClient? { attached.withLock { $0 } }

    private func share(_ regions: ([GuestRAM]) -> [VhostUserMemory]) throws {
        try withFrontend { frontend throws(VhostUserError) in
            try frontend.advise()
            try frontend.listen()
            let client = try frontend.shareMemory(regions(destination.memory)) {
                client throws(SharedClientError) in try session.attach(client)
            }
            attached.withLock { $0 = client }
            let nowhere = VhostUserRing(size: 1, descriptors: 0, available: 0, used: 0)
            do {
                try frontend.startRing(0, nowhere, kick: EventFlag(), call: EventFlag())
            } catch let error as VhostUserError { throw error } catch {}
        }
    }

    func withFrontend(
        _ body: (inout VhostUserFrontend) throws(VhostUserError) -> Void
    ) throws(VhostUserError) {
        try frontend.withLock { frontend throws(VhostUserError) in
            guard frontend.value != nil else { return }
            try body(&frontend.value!)
        }
    }

    /// Closes the connection, on which the program ends.
    func disconnect() { frontend.withLock { $0.value = nil } }

    /// Forgets the client and with it its userfaultfd.
    func forgetClient() { attached.withLock { $0 = nil } }

    struct Running {
        let receiver: Bounded<DestinationReport>
        let sender: Bounded<SourceReport>
    }

    func start(startsPostcopy: Bool = true) throws -> Running {
        let (session, sending) = (session, sending)
        let listener = listener
        let receiver = try Bounded("destination") { session.run(on: listener.take()) }
        let address = proxy.address
        let sender = try Bounded("source") { sending.run(to: address) }
        if startsPostcopy { sending.startPostcopy() }
        return Running(receiver: receiver, sender: sender)
    }

    /// Both reports; gives up what hangs.
    func finish(
        _ running: Running, withinSeconds seconds: UInt64 = 60
    ) throws -> (SourceReport, DestinationReport) {
        let sent = running.sender.output(withinSeconds: seconds)
        let received = running.receiver.output(withinSeconds: seconds)
        if sent == nil || received == nil {
            Issue.record(
                "hangs: \(sending.progress)\n\(session.progress)\n\(proxy.events)\n\(process.said)")
            sending.abandon()
            session.abandon()
        }
        #expect(proxy.stop())
        return (try #require(sent), try #require(received))
    }

    /// A migration that completes, in which everybody saw the right pages.
    /// - Parameter marked: whether the client's marks are to be on every page.
    func expectCompleted(
        _ running: Running, marked: Bool = true, line: SourceLocation = #_sourceLocation
    ) throws {
        let (sent, received) = try finish(running)
        #expect(sent.status == .completed, "\(sent.problem ?? "")", sourceLocation: line)
        #expect(received.status == .completed, "\(received.problem ?? "")", sourceLocation: line)
        #expect(destination.wrongReads() == 0, sourceLocation: line)
        #expect(process.hears("all pages right"), "\(process.said)", sourceLocation: line)
        let judged = destination.judge()
        #expect(judged.wrong == 0, sourceLocation: line)
        let pages = destination.memory.reduce(0) { $0 + $1.usedPages }
        if marked { #expect(judged.marked == pages, sourceLocation: line) }
        try withFrontend { frontend throws(VhostUserError) in try frontend.end() }
        disconnect()
        #expect(process.status() == 0, "\(process.said)", sourceLocation: line)
    }
}
