import Postcopy
import Synchronization

/// `swift run tutorial`
@main
enum Tutorial {
    static func main() async throws {
        let (here, there) = (try Tally(), try Tally())
        here.resume()
        let (sent, received) = try await move(here, to: there)
        print("the guest stood still for \(sent.downtimeNanoseconds ?? 0) ns")
        print("\(received.progress.requests) pages were asked for ahead of turn")
        // Until it has met each page once more: what one lost would show.
        let pages = UInt64(there.memory[0].geometry.targetPageCount)
        let end = here.written.load(ordering: .relaxed) + pages
        while there.written.load(ordering: .relaxed) < end {
            try await Task.sleep(for: .milliseconds(1))
        }
        there.pause()
        let wrong = there.mismatches.load(ordering: .relaxed)
        precondition(wrong == 0, "\(wrong) pages were wrong")
        print("\(there.written.load(ordering: .relaxed)) pages written, none of them lost")
    }
}
