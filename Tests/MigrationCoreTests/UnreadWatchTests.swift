import MigrationCore
import Testing

@Suite("UnreadWatch")
struct UnreadWatchTests {
    private static let limit: UInt64 = 100

    /// What each look at a link finds: bytes unread, when it was last read, and when that is.
    private func looks(_ looks: [(unread: Int, heard: UInt64, now: UInt64)]) -> [Bool] {
        var watch = UnreadWatch()
        return looks.map {
            watch.isSilent(
                link: 0, unreadBytes: $0.unread, heardAtNanoseconds: $0.heard, at: $0.now,
                limitNanoseconds: Self.limit)
        }
    }

    @Test("silence is believed at the second look behind the limit")
    func silent() {
        #expect(looks([(0, 50, 149), (0, 50, 150), (0, 50, 151)]) == [false, false, true])
    }

    @Test("bytes that nobody reads and that grow are heard, and those that stay are not")
    func unread() {
        #expect(
            looks([(4, 10, 60), (4, 10, 159), (4, 10, 160), (4, 10, 161)])
                == [false, false, false, true])
        #expect(looks([(4, 10, 60), (8, 10, 155), (8, 10, 250), (12, 10, 256)]).allSatisfy { !$0 })
    }

    @Test("who reads again, or another link, begins anew")
    func anew() {
        #expect(
            looks([(8, 10, 60), (0, 200, 210), (4, 200, 290), (4, 200, 389)]).allSatisfy { !$0 })
        var watch = UnreadWatch()
        for (link, now) in [(0, 200), (1, 300), (1, 301)] as [(UInt32, UInt64)] {
            let isSilent = watch.isSilent(
                link: link, unreadBytes: link == 0 ? 9 : 4, heardAtNanoseconds: 10, at: now,
                limitNanoseconds: Self.limit)
            #expect(!isSilent, "link \(link) at \(now)")
        }
    }
}
