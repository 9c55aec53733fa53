import CShims
import Foundation
import Glibc
import LinuxKernel
import Synchronization
import TestSupport

/// What Firecracker does with the memory of a microVM that it resumes: maps it, registers it with a
/// userfaultfd, hands that over and keeps a copy; then its vCPUs touch pages and its balloon gives some
/// back. Every page is compared with what it must hold.
///
/// Says "handed over", "holding" and "verified ..." on standard error; ends with 0 when every page was
/// right.
@main
final class FirecrackerClient: Sendable {
    private let options: ClientOptions
    private let regions: [ClientRegion]
    private let counts = Mutex(Counts())

    /// Threads that have come to a point.
    private final class Gathering: Sendable {
        private let count = Mutex(0)

        func add() -> Int {
            count.withLock { count in
                count += 1
                return count
            }
        }
    }

    private struct Counts {
        var content = 0
        var zeros = 0
        var own = 0
        var wrong = 0
    }

    static func main() throws {
        let client = FirecrackerClient(
            ClientOptions(parsing: Array(CommandLine.arguments.dropFirst())))
        try client.run()
    }

    private init(_ options: ClientOptions) {
        self.options = options
        regions = options.regions.map {
            ClientRegion(
                $0, seed: options.seed, alignment: max(4096, options.saidPageBytes ?? 0))
        }
        if let page = options.presentPage { for region in regions { region.touch(page) } }
    }

    private func run() throws {
        let uffd = openUserfaultfd()
        let socket = try HandOffSocket(options.socket)
        try socket.send(message, [uffd])
        if options.own == .closed { close(uffd) }
        say("handed over")
        let start = Monotonic.now()
        if options.own == .blocking {
            // Once a page has come the other side has done with the descriptor's flags.
            if regions[0].verify(0) == nil { count(nil) }
            _ = fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL, 0) & ~O_NONBLOCK)
        }
        try touchPages()
        let wrong = counts.withLock { $0.wrong }
        for region in regions { for page in 0..<region.pageCount { count(region.verify(page)) } }
        let counts = counts.withLock { $0 }
        say(
            "verified \(counts.content) of the content, \(counts.zeros) of zeros, "
                + "\(counts.own) written, \(counts.wrong) wrong, \(wrong) of them early, in "
                + "\((Monotonic.now() - start) / 1_000_000) ms")
        exit(counts.wrong == 0 ? 0 : 1)
    }

    /// At once, whoever reads along.
    private func say(_ line: String) {
        try? FileHandle.standardError.write(contentsOf: Data("\(line)\n".utf8))
    }

    private func count(_ holding: ClientRegion.PageState.Holding?) {
        counts.withLock { counts in
            switch holding {
            case .content: counts.content += 1
            case .zeros: counts.zeros += 1
            case .own: counts.own += 1
            case .going, .changing: break
            case nil: counts.wrong += 1
            }
        }
    }

    private func openUserfaultfd() -> Int32 {
        let uffd = pc_uffd_open_device()
        guard uffd >= 0 else { fatalError("no userfaultfd: errno \(-uffd)") }
        // Firecracker asks for it where there is a balloon; lately always.
        let features =
            options.balloon > 0 ? UInt64(PC_UFFD_FEATURE_EVENT_REMOVE.rawValue) : 0
        var (supported, ioctls): (UInt64, UInt64) = (0, 0)
        var answer = unsafe pc_uffd_handshake(uffd, features, &supported)
        for region in regions where answer == 0 {
            answer = unsafe pc_uffd_register(
                uffd, region.address, region.shape.lengthBytes,
                UInt64(PC_UFFD_MODE_MISSING.rawValue), &ioctls)
        }
        guard answer == 0 else { fatalError("userfaultfd: errno \(-answer)") }
        return uffd
    }

    /// The regions as the version that is played sends them.
    private var message: [UInt8] {
        let entries = regions.map { region in
            let page = options.saidPageBytes ?? region.shape.pageBytes
            var fields = [
                "\"base_host_virt_addr\":\(region.address)",
                "\"size\":\(region.shape.lengthBytes)", "\"offset\":\(region.shape.offset)",
            ]
            switch options.pageField {
            case .none: break
            case .older: fields.append("\"page_size_kib\":\(page)")
            case .newer: fields.append("\"page_size\":\(page)")
            case .both: fields += ["\"page_size\":\(page)", "\"page_size_kib\":\(page)"]
            case .kibibytes: fields.append("\"page_size_kib\":\(page >> 10)")
            }
            return "{\(fields.joined(separator: ","))}"
        }
        return Array("[\(entries.joined(separator: ","))]".utf8)
    }

    /// Every thread verifies every page, each in an order of its own, while the balloon takes some.
    private func touchPages() throws {
        let gate = try EventFlag()
        let isHalfDone = try EventFlag()
        let gathered = Gathering()
        let places = regions.indices.flatMap { region in
            (0..<regions[region].pageCount).map { (region, $0) }
        }
        var threads: [Bounded<Void>] = []
        for thread in 0..<options.threads {
            threads.append(
                try Bounded("toucher") { [self] in
                    var random = SeededRandom(seed: options.seed &+ UInt64(thread))
                    for (index, (region, page)) in places.shuffled(using: &random).enumerated() {
                        if options.holds, index == places.count / 2 {
                            let count = gathered.add()
                            if count == options.threads { isHalfDone.raise() }
                            gate.wait()
                        }
                        let holding = regions[region].verify(page)
                        if holding == nil { count(nil) }
                    }
                })
        }
        let balloon = try Bounded("balloon") { [self] in inflate() }
        if options.holds {
            isHalfDone.wait()
            say("holding")
            _ = readLine()
            gate.raise()
        }
        for thread in threads + [balloon] {
            guard thread.output(withinSeconds: 300) != nil else { fatalError("a thread hangs") }
        }
    }

    /// Ranges of random regions and lengths; one in three pages is written again afterwards.
    private func inflate() {
        var random = SeededRandom(seed: ~options.seed)
        for _ in 0..<options.balloon {
            let region = regions[random.below(regions.count)]
            let first = random.below(region.pageCount)
            let last = min(region.pageCount, first + 1 + random.below(16))
            region.remove(first..<last)
            for page in first..<last {
                if random.below(3) == 0 {
                    region.write(page)
                } else if region.verify(page) == nil {
                    count(nil)
                }
            }
        }
    }
}
