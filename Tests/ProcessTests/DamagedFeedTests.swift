import Foundation
import TestSupport
import Testing

/// Streams of a real QEMU, whole and damaged, fed to `postcopy receive --from-qemu`: a clean
/// completion or one clear error, in time, and nothing left behind.
@Suite(.serialized) struct DamagedFeedTests {
    /// As many as fit into a test run; `POSTCOPY_DAMAGED_FEEDS` asks for more.
    private static let countDefault = 300
    /// So many that waits for silence overlap.
    private static let workers = 24
    /// What the program needs beside the guest's memory.
    private static let programBytesMax = 64 << 20

    @Test("whole ones complete", arguments: ["postcopy", "postcopy-preempt"], [false, true])
    func whole(vector: String, isParked: Bool) throws {
        let source = try FeedSource()
        try inPlace { place in
            let live = LiveFeed(
                feed: try source.whole(vector, isParked: isParked), place: place,
                residentBytesMax: source.guestBytes(of: vector) + Self.programBytesMax)
            let outcome = try live.play()
            #expect(outcome.ended.status == 0, "\(outcome.ended)")
            #expect(live.fault(of: outcome) == nil)
            let left = try place.leftovers(within: 5)
            #expect(left == [])
        }
    }

    @Test("damaged ones end")
    func damaged() throws {
        let environment = ProcessInfo.processInfo.environment
        let count = environment["POSTCOPY_DAMAGED_FEEDS"].flatMap { Int($0) } ?? Self.countDefault
        let source = try FeedSource()
        try inPlace { place in
            let tally = Tally()
            let next = Counter(below: count)
            // Threads of their own: these mostly wait, and a queue has one for each processor.
            let workers = DispatchGroup()
            for _ in 0..<Self.workers {
                workers.enter()
                Thread.detachNewThread {
                    while let seed = next.next() {
                        let feed = source.damaged(seed: seed)
                        let live = LiveFeed(
                            feed: feed, place: place,
                            residentBytesMax: source.guestBytes(of: feed.vector)
                                + Self.programBytesMax)
                        tally.note(feed, Result { try live.play() }, fault: live.fault)
                    }
                    workers.leave()
                }
            }
            workers.wait()
            print(tally.summary)
            #expect(tally.faults == [])
            #expect(tally.count == count)
            #expect(tally.completed > 0 && tally.completed < count / 2)
            let left = try place.leftovers(within: 5)
            #expect(left == [])
        }
    }
}

/// What came of many feeds.
private final class Tally: @unchecked Sendable {
    // SAFETY: all is used under `lock`.
    private let lock = NSLock()
    private(set) var faults: [String] = []
    private(set) var completed = 0
    private(set) var count = 0
    private var waitedSecondsMax = 0.0
    private var residentBytesMax = 0
    private let startedAt = Date()

    func note(
        _ feed: DamagedFeed, _ result: Result<LiveFeed.Outcome, any Error>,
        fault: (LiveFeed.Outcome) -> String?
    ) {
        lock.withLock {
            count += 1
            switch result {
            case .success(let outcome):
                if outcome.ended.status == 0 { completed += 1 }
                waitedSecondsMax = max(waitedSecondsMax, outcome.waitedSeconds)
                residentBytesMax = max(residentBytesMax, outcome.residentBytes)
                if let fault = fault(outcome) {
                    faults.append("\(feed): \(fault): \(outcome.ended)")
                }
            case .failure(let error): faults.append("\(feed): \(error)")
            }
        }
    }

    var summary: String {
        lock.withLock {
            "\(count) damaged feeds in \(Int(Date().timeIntervalSince(startedAt))) s: "
                + "\(completed) completed, \(count - completed) refused, \(faults.count) wrong; "
                + "longest wait \(waitedSecondsMax) s, most memory \(residentBytesMax >> 10) KiB"
        }
    }
}

/// Numbers from 0, each given once.
private final class Counter: @unchecked Sendable {
    // SAFETY: `value` is used under `lock`.
    private let lock = NSLock()
    private var value = 0
    private let limit: Int

    init(below limit: Int) { self.limit = limit }

    func next() -> Int? {
        lock.withLock {
            guard value < limit else { return nil }
            defer { value += 1 }
            return value
        }
    }
}
