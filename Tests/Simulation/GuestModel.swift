import PageModel

/// The guest's memory at both sides, as the kernels and the threads of the guest see it. The content of
/// a target page is a version: 0 is a page of zeros, and no other version is ever written twice.
final class GuestModel {
    struct Waiter {
        let page: HostPage
        let thread: Worker
        let since: Int
    }

    private let world: World
    let blocks: [BlockGeometry]
    /// By block, by target page.
    private(set) var source: [[UInt64]]
    /// What the guest wrote at the source since somebody last looked.
    private(set) var log: [[Bool]]
    private var destination: [[UInt64]]
    /// What the guest must find at the destination: the content at the switch, and what it wrote since.
    private var expected: [[UInt64]] = []
    /// By block, by host page, from LISTEN on.
    private(set) var present: [[Bool]] = []
    private var waiters: [Waiter] = []
    /// Faults that the destination's kernel reports, and nobody has read yet.
    private(set) var faults: [HostPage] = []
    private var nextVersion: UInt64 = 1
    private(set) var runsAtSource = true
    private(set) var runsAtDestination = false
    var devicesLoaded = false
    private var threads: [GuestThread] = []

    init(_ world: World) {
        self.world = world
        blocks = world.scenario.blocks
        source = blocks.map { Array(repeating: 0, count: $0.targetPageCount) }
        log = blocks.map { Array(repeating: false, count: $0.targetPageCount) }
        destination = source
        for block in blocks.indices {
            for page in source[block].indices where world.draw(4) > 0 {
                source[block][page] = newVersion()
            }
        }
    }

    func begin() {
        for index in 0..<world.scenario.vcpus {
            threads.append(GuestThread(world, "cpu\(index)", .source))
            threads.append(GuestThread(world, "cpu\(index)", .destination))
        }
        for thread in threads where thread.side == .source { thread.goOn() }
    }

    private func newVersion() -> UInt64 {
        defer { nextVersion += 1 }
        return nextVersion
    }

    var waitingCount: Int { waiters.count }

    func hostPageCount(of block: Int) -> Int { blocks[block].hostPageCount }

    // MARK: - At the source

    func writeAtSource(_ block: Int, _ page: Int) {
        source[block][page] = world.draw(6) == 0 ? 0 : newVersion()
        log[block][page] = true
    }

    func takeLog(_ block: Int, _ page: Int) -> Bool {
        defer { log[block][page] = false }
        return log[block][page]
    }

    func stopAtSource() { runsAtSource = false }

    func resumeAtSource() {
        runsAtSource = true
        world.note("guest", "runs at the source again")
        for thread in threads where thread.side == .source { thread.goOn() }
    }

    // MARK: - At the destination

    /// Before LISTEN memory is written, and a host page is there whole as soon as a part of it is.
    func store(_ version: UInt64, _ block: Int, _ page: Int) { destination[block][page] = version }

    /// LISTEN: what was not received is dropped, and missing pages fault from here on.
    func listen(_ received: [ReceivedBitmap]) {
        expected = source
        present = blocks.indices.map { block in
            (0..<blocks[block].hostPageCount).map {
                received[block].contains(HostPageIndex(rawValue: $0))
            }
        }
        for (block, geometry) in blocks.enumerated() {
            for page in 0..<geometry.hostPageCount where present[block][page] {
                for target in geometry.targetPages(of: HostPageIndex(rawValue: page))
                where destination[block][target] != expected[block][target] {
                    world.fail(
                        "no old content", "ram\(block) target page \(target) was not discarded")
                }
            }
        }
    }

    func isPresent(_ page: HostPage) -> Bool { present[page.block.rawValue][page.page.rawValue] }

    /// What the kernel does for one `UFFDIO_COPY` or `UFFDIO_ZEROPAGE`.
    func place(_ block: Int, _ page: Int, _ versions: ArraySlice<UInt64>) {
        world.note("kernel", "ram\(block) page \(page) is placed")
        guard !present[block][page] else {
            return world.fail("no page is placed twice", "ram\(block) host page \(page)")
        }
        present[block][page] = true
        let targets = blocks[block].targetPages(of: HostPageIndex(rawValue: page))
        for (target, version) in zip(targets, versions) {
            if version != expected[block][target] {
                world.fail(
                    "no old content",
                    "ram\(block) target page \(target): \(version), not \(expected[block][target])")
            }
            destination[block][target] = version
        }
        wakeWaiters(of: HostPage(block: .init(rawValue: block), page: .init(rawValue: page)))
    }

    func wakeWaiters(of page: HostPage) {
        waiters.removeAll { waiter in
            guard waiter.page == page else { return false }
            waiter.thread.goOn()
            return true
        }
    }

    /// Waits for a page by a fault. A thread waits for one page at a time.
    func wait(for page: HostPage, by thread: Worker) {
        guard !waiters.contains(where: { $0.thread === thread }) else { return }
        waiters.append(Waiter(page: page, thread: thread, since: world.now))
        faults.append(page)
        let fault = world.parts.destination.fault!
        world.wake(fault, at: world.now + world.stepTime())
    }

    /// The guest will never run here: nobody waits any more.
    func endFaults() {
        waiters = []
        faults = []
    }

    func nextFault() -> HostPage? { faults.isEmpty ? nil : faults.removeFirst() }

    var waitedFor: [HostPage] { waiters.map(\.page) }

    func runAtDestination() {
        runsAtDestination = true
        world.note("guest", "runs at the destination")
        world.reached(.guestStarted)
        for thread in threads where thread.side == .destination { thread.goOn() }
    }

    func read(_ block: Int, _ page: Int) {
        let (found, due) = (destination[block][page], expected[block][page])
        guard found != due else { return }
        world.fail("no old content", "ram\(block) target page \(page) reads \(found), not \(due)")
    }

    func writeAtDestination(_ block: Int, _ page: Int) {
        let version = newVersion()
        destination[block][page] = version
        expected[block][page] = version
    }

    // MARK: - Laws

    /// What holds after every step.
    func check() {
        if runsAtSource && runsAtDestination {
            world.fail("one side runs the guest", "it runs at both")
        }
        if runsAtDestination && !devicesLoaded {
            world.fail("no guest without its devices", "it runs, and they are not loaded")
        }
        if world.now > Time.answered, let first = waiters.first {
            world.fail(
                "who waits is answered",
                "ram\(first.page.block.rawValue) page \(first.page.page.rawValue) since "
                    + "\(first.since / Time.millisecond) ms")
        }
    }

    /// Received implies placed, of every page, from LISTEN on: before it memory is written like any other.
    func check(_ received: [ReceivedBitmap]) {
        for block in present.indices {
            var page = HostPageIndex(rawValue: 0)
            while let run = received[block].nextPlaced(from: page) {
                for number in run.lowerBound.rawValue..<run.upperBound.rawValue
                where !present[block][number] {
                    world.fail("received implies placed", "ram\(block) host page \(number)")
                }
                page = run.upperBound
            }
        }
    }

    /// Both sides say that all is there.
    func compare() {
        guard runsAtDestination, !runsAtSource else {
            return world.fail("both sides tell one story", "completed, and the guest runs nowhere")
        }
        for block in blocks.indices {
            if let missing = present[block].firstIndex(of: false) {
                world.fail("completed means whole", "ram\(block) host page \(missing) is missing")
            }
            if destination[block] != expected[block] {
                world.fail("completed means whole", "ram\(block) differs")
            }
        }
        if let waiter = waiters.first {
            world.fail("who waits is answered", "\(waiter.thread.name) waits in a whole guest")
        }
    }
}

/// A vCPU at one side: it touches pages, most of them near those that it touched before.
final class GuestThread: Worker {
    private var place: (block: Int, page: Int) = (0, 0)
    private var isAtPage = false
    private var steps = 0
    private static let stepsMax = 120

    override func step() {
        let guest = world.parts.guest
        guard side == .source ? guest.runsAtSource : guest.runsAtDestination else { return }
        guard steps < Self.stepsMax else { return }
        if side == .source {
            steps += 1
            choose(guest)
            guest.writeAtSource(place.block, place.page)
        } else {
            if !isAtPage {
                steps += 1
                choose(guest)
            }
            let page = HostPage(
                block: BlockIndex(rawValue: place.block),
                page: HostPageIndex(
                    rawValue: place.page / guest.blocks[place.block].hostPage.targetPages))
            isAtPage = true
            guard guest.isPresent(page) else {
                guest.wait(for: page, by: self)
                return
            }
            isAtPage = false
            guest.read(place.block, place.page)
            if world.draw(2) == 0 { guest.writeAtDestination(place.block, place.page) }
        }
        let scale = [2, 20, 400, 20_000][world.draw(4)] * Time.microsecond
        goOn(at: world.now + 500 + world.draw(scale))
    }

    private func choose(_ guest: GuestModel) {
        if world.draw(3) == 0 { place.block = world.draw(guest.blocks.count) }
        let count = guest.blocks[place.block].targetPageCount
        if world.draw(2) == 0 {
            place.page = world.draw(count)
        } else {
            place.page = (place.page + 1) % count
        }
    }
}

/// A target page's 4096 bytes: its version at both ends, and something between.
enum PageBytes {
    static let filler = [UInt8](repeating: 0xa5, count: 4096)

    static func append(_ version: UInt64, to output: inout [UInt8]) {
        append(word: version, to: &output)
        output.append(contentsOf: filler[8..<4088])
        append(word: version, to: &output)
    }

    private static func append(word: UInt64, to output: inout [UInt8]) {
        for shift in stride(from: 56 as UInt64, through: 0, by: -8) {
            output.append(UInt8(truncatingIfNeeded: word >> shift))
        }
    }

    /// The version that a page holds; `nil` for bytes that are no page.
    static func version(in bytes: Span<UInt8>, at start: Int) -> UInt64? {
        let first = word(in: bytes, at: start)
        guard first == word(in: bytes, at: start + 4088) else { return nil }
        guard bytes[start + 8] == 0xa5, bytes[start + 4087] == 0xa5 else { return nil }
        return first
    }

    private static func word(in bytes: Span<UInt8>, at start: Int) -> UInt64 {
        var word: UInt64 = 0
        for index in start..<start + 8 { word = word << 8 | UInt64(bytes[index]) }
        return word
    }
}
