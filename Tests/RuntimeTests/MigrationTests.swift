import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import Testing

extension RuntimeLaws {
    /// Both sides in one process, over a real socket and a real userfaultfd.
    @Suite("A migration between two guests")
    struct MigrationTests {
        @Test("a guest that cannot be described on the wire is refused before anything starts")
        func refusesGuests() throws {
            let block = (name: "a", pages: 1, backing: RAMBacking.anonymous)
            let options = MigrationOptions()
            #expect(throws: ConfigurationError.noMemory) {
                try SourceSession(guest: PatternGuest(blocks: []), options: options)
            }
            #expect(throws: ConfigurationError.repeatedBlock("a")) {
                try DestinationSession(
                    guest: PatternGuest(blocks: [block, block]), options: options)
            }
            let name = String(repeating: "m", count: 256)
            #expect(throws: ConfigurationError.machineTypeTooLong(bytes: 256)) {
                try SourceSession(
                    guest: PatternGuest(blocks: [block], machineType: name), options: options)
            }
            var still = options
            still.maxBandwidth = 0
            #expect(throws: ConfigurationError.zeroBandwidth(option: "maxBandwidth")) {
                try SourceSession(guest: PatternGuest(blocks: [block]), options: still)
            }
            still = options
            still.maxPostcopyBandwidth = 0
            let error = #expect(throws: ConfigurationError.self) {
                try DestinationSession(guest: PatternGuest(blocks: [block]), options: still)
            }
            #expect(error == .zeroBandwidth(option: "maxPostcopyBandwidth"))
            #expect(error?.description.contains("maxPostcopyBandwidth is 0 bytes") == true)
        }

        struct Way: CustomTestStringConvertible, Sendable {
            let address: String
            let preempt: Bool
            let backings: [RAMBacking]
            var testDescription: String { "\(address), preempt \(preempt), \(backings)" }
        }

        static let ways: [Way] = [
            Way(address: "tcp:127.0.0.1:0", preempt: true, backings: [.anonymous, .anonymous]),
            Way(address: "tcp:127.0.0.1:0", preempt: false, backings: [.anonymous]),
            Way(address: "tcp:127.0.0.1:0", preempt: true, backings: [.memfd, .anonymous]),
            Way(address: "tcp:127.0.0.1:0", preempt: false, backings: [.memfd]),
        ]

        @Test("every page arrives, read while it is on its way", arguments: ways)
        func completes(_ way: Way) throws {
            let blocks = way.backings.enumerated().map { index, backing in
                (name: "block\(index)", pages: index == 0 ? 8_191 : 65, backing: backing)
            }
            let pair = try MigratedPair(blocks: blocks)
            let outcome = try pair.migrate(to: way.address, preempt: way.preempt)
            #expect(outcome.source.status == .completed, "\(outcome.source.problem ?? "")")
            #expect(
                outcome.destination.status == .completed, "\(outcome.destination.problem ?? "")")
            #expect(!outcome.source.guestRunsHere)
            #expect(outcome.destination.guestRunsHere)
            #expect(pair.destination.mismatches.load(ordering: .relaxed) == 0)
            #expect(pair.destination.wrongWords() == 0)
            #expect(outcome.destination.progress.missingHostPages == 0)
            #expect(outcome.destination.progress.requests > 0)
            #expect(outcome.source.progress.requests == outcome.destination.progress.requests)
            #expect(outcome.destination.progress.zeroPages > 0)
            let pages = outcome.source.progress.normalPages + outcome.source.progress.zeroPages
            #expect(pages == UInt64(outcome.source.progress.totalPages))
            let blocktime = try #require(outcome.destination.blocktime)
            #expect(blocktime.vcpus.count == 2)
            #expect(blocktime.latency.count > 0)
            #expect(blocktime.others.waitCount == 0)
        }
    }
}

/// Two guests and what happens between them.
struct MigratedPair {
    let source: PatternGuest
    let destination: PatternGuest

    struct Outcome {
        let source: SourceReport
        let destination: DestinationReport
    }

    init(
        blocks: [(name: String, pages: Int, backing: RAMBacking)], refusesDevices: Bool = false
    ) throws {
        source = try PatternGuest(blocks: blocks)
        destination = try PatternGuest(blocks: blocks, refusesDevices: refusesDevices)
        source.fill()
    }

    func migrate(to address: String, preempt: Bool) throws -> Outcome {
        var options = MigrationOptions()
        options.preempt = preempt
        let listener = try Listener(at: ChannelAddress(parsing: address))
        let bound = listener.address
        let readers = try destination.runVCPUs()
        let receiving = try DestinationSession(guest: destination, options: options)
        let sending = try SourceSession(guest: source, options: options)
        let sender = try JoinableThread(name: "source") { sending.run(to: bound) }
        sending.startPostcopy()
        let received = receiving.run(on: listener)
        let sent = sender.join()
        if received.status != .completed { destination.stop() }
        for reader in readers { reader.join() }
        return Outcome(source: sent, destination: received)
    }
}
