/// Bytes that are consumed from the front.
struct ByteQueue {
    private(set) var bytes: [UInt8] = []
    /// The first byte that was not consumed.
    private(set) var head = 0

    var count: Int { bytes.count - head }
    var isEmpty: Bool { head == bytes.count }

    mutating func append(_ new: ArraySlice<UInt8>) { bytes.append(contentsOf: new) }

    mutating func consume(_ count: Int) {
        head += count
        if head == bytes.count {
            bytes.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 1 << 16 {
            bytes.removeFirst(head)
            head = 0
        }
    }

    /// Forgets all but the first `count` bytes.
    mutating func truncate(to count: Int) { bytes.removeLast(bytes.count - head - count) }

    mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
        head = 0
    }

    mutating func edit(_ body: (inout [UInt8]) -> Void) { body(&bytes) }

    func prefix(_ count: Int) -> ArraySlice<UInt8> { bytes[head..<head + count] }
}

/// One direction of a connection: what was written arrives in order, some time later.
final class Pipe {
    private let world: World
    private var unread = ByteQueue()
    /// Up to which byte, counted from the first ever written, what arrives when.
    private var arrivals: [(end: Int, at: Int)] = []
    private var nextArrival = 0
    private var readCount = 0
    private var writtenCount = 0
    /// Accepted by a socket whose peer is out of reach.
    private var vanished = 0
    /// Since when bytes are on their way that nobody acknowledges.
    private(set) var unheardSince: Int?
    private(set) var isCut = false
    private var cutBy: Trouble?
    private var lastArrival = 0
    /// Until when nothing arrives, and what made it so.
    private var stall: (until: Int, by: Trouble?) = (0, nil)
    /// The sender's end, once it has closed.
    var endsAt: Int?
    weak var reader: Worker?
    weak var writer: Worker?

    init(_ world: World) { self.world = world }

    private var arrived: Int {
        while nextArrival < arrivals.count, arrivals[nextArrival].at <= world.now {
            nextArrival += 1
        }
        return nextArrival == 0 ? 0 : arrivals[nextArrival - 1].end
    }

    var readable: Int { min(arrived, readCount + unread.count) - readCount }

    /// Takes what fits; answers how much that was.
    func write(_ bytes: ArraySlice<UInt8>) -> Int {
        let room = max(0, world.scenario.socketBytes - unread.count - vanished)
        let count = min(room, bytes.count)
        guard count > 0 else { return 0 }
        guard !isCut else {
            vanished += count
            cutBy?.touch()
            unheardSince = unheardSince ?? world.now
            return count
        }
        unread.append(bytes.prefix(count))
        writtenCount += count
        let soonest = world.now + world.delay()
        if soonest < stall.until { stall.by?.touch() }
        lastArrival = max(lastArrival, soonest)
        arrivals.append((writtenCount, lastArrival))
        if let reader { world.wake(reader, at: lastArrival) }
        return count
    }

    func read(into target: inout ByteQueue, countMax: Int) -> Int {
        let count = min(readable, countMax)
        guard count > 0 else {
            expectMore()
            return 0
        }
        target.append(unread.prefix(count))
        unread.consume(count)
        readCount += count
        if let writer { world.wake(writer, at: world.now + world.delay()) }
        return count
    }

    /// A reader that found nothing comes again with what is on its way.
    private func expectMore() {
        guard let reader else { return }
        if nextArrival < arrivals.count, !unread.isEmpty {
            world.wake(reader, at: arrivals[nextArrival].at)
        } else if let endsAt, endsAt > world.now {
            world.wake(reader, at: endsAt)
        }
    }

    /// Whether all has been read that will ever come.
    var hasEnded: Bool {
        guard let endsAt else { return false }
        return endsAt <= world.now && unread.isEmpty
    }

    func end() {
        guard endsAt == nil, !isCut else { return }
        let soonest = world.now + world.delay()
        if soonest < stall.until { stall.by?.touch() }
        let at = max(lastArrival, soonest)
        endsAt = at
        if let reader { world.wake(reader, at: at) }
    }

    /// Loses what is on its way, from some byte on, and all that is written from now on.
    func cut(by trouble: Trouble) {
        guard !isCut else { return }
        isCut = true
        cutBy = trouble
        if let endsAt, endsAt > world.now { self.endsAt = nil }
        let here = max(0, arrived - readCount)
        let onWay = unread.count - here
        let kept = onWay > 0 ? world.draw(onWay + 1) : 0
        unread.truncate(to: here + kept)
        guard kept < onWay else { return }
        unheardSince = world.now
        trouble.touch()
    }

    func stall(until instant: Int, _ trouble: Trouble?) {
        if lastArrival < instant {
            lastArrival = instant
            stall = (instant, trouble)
        }
        for index in nextArrival..<arrivals.count
        where arrivals[index].at > world.now && arrivals[index].at < instant {
            arrivals[index].at = instant
            trouble?.touch()
        }
        if let endsAt, endsAt > world.now, endsAt < instant {
            self.endsAt = instant
            trouble?.touch()
        }
        if let reader { world.wake(reader, at: instant) }
    }
}

/// Two pipes between two ends: 0 is the one that connected.
final class Connection {
    let world: World
    let pipes: [Pipe]
    /// When each end hears of the break; `nil`: not by itself.
    var breaksAt: [Int?] = [nil, nil]
    /// What cut it.
    private(set) var cutBy: Trouble?
    var isClosed = [false, false]
    /// Whether the migration's own source opened it.
    let isSource: Bool

    init(_ world: World, isSource: Bool) {
        self.world = world
        self.isSource = isSource
        pipes = [Pipe(world), Pipe(world)]
    }

    var isDone: Bool { isClosed[0] && isClosed[1] }

    /// - Parameter heard: when each end hears of it.
    func cut(by trouble: Trouble, heard: [Int?]) {
        cutBy = trouble
        for pipe in pipes { pipe.cut(by: trouble) }
        for end in 0...1 {
            guard let at = heard[end] else { continue }
            breaksAt[end] = min(breaksAt[end] ?? .max, at)
            for worker in [pipes[1 - end].reader, pipes[end].writer] {
                if let worker { world.wake(worker, at: at) }
            }
        }
    }
}

/// One end of a connection.
struct Socket {
    let connection: Connection
    let end: Int

    enum Reading { case bytes, nothing, ended, failed }

    var isBroken: Bool { (connection.breaksAt[end] ?? .max) <= connection.world.now }

    func read(into target: inout ByteQueue, countMax: Int = 1 << 15) -> Reading {
        guard !connection.isClosed[end] else { return .failed }
        let pipe = connection.pipes[1 - end]
        if pipe.read(into: &target, countMax: countMax) > 0 { return .bytes }
        if isBroken {
            connection.cutBy?.touch()
            return .failed
        }
        if let at = connection.breaksAt[end], let reader = pipe.reader {
            connection.world.wake(reader, at: at)
        }
        return pipe.hasEnded ? .ended : .nothing
    }

    /// What has come and was not read.
    var unreadBytes: Int { connection.pipes[1 - end].readable }

    var isReadable: Bool {
        let pipe = connection.pipes[1 - end]
        return pipe.readable > 0 || pipe.hasEnded || isBroken
    }

    /// How many bytes were taken; `nil` once the connection is broken.
    func write(_ bytes: ArraySlice<UInt8>) -> Int? {
        guard !connection.isClosed[end] else { return nil }
        guard !isBroken else {
            connection.cutBy?.touch()
            return nil
        }
        if connection.isClosed[1 - end], connection.breaksAt[end] == nil {
            // The peer answers by a reset, if that gets through.
            let pipe = connection.pipes[end]
            if !pipe.isCut {
                let at = connection.world.now + 2 * connection.world.delay()
                connection.breaksAt[end] = at
                if let writer = pipe.writer { connection.world.wake(writer, at: at) }
            }
        }
        let pipe = connection.pipes[end]
        if let since = pipe.unheardSince {
            // The kernel gives up (`TCP_USER_TIMEOUT`).
            let at = since + Time.silenceLimit
            connection.breaksAt[end] = min(at, connection.breaksAt[end] ?? at)
        }
        if let at = connection.breaksAt[end], let writer = pipe.writer {
            connection.world.wake(writer, at: at)
        }
        return connection.pipes[end].write(bytes)
    }

    func listen(reader: Worker?, writer: Worker?) {
        connection.pipes[1 - end].reader = reader
        connection.pipes[end].writer = writer
    }

    func endSending() { connection.pipes[end].end() }

    func close() {
        guard !connection.isClosed[end] else { return }
        connection.isClosed[end] = true
        endSending()
    }
}
