import MigrationCore
import Testing

@testable import PostcopyRuntime

@Suite struct PhaseLogTests {
    @Test(
        "who looks again finds what is kept of what was entered since, once and in order",
        arguments: [1, 7, 63, 64, 65, 100, 128, 129, 200])
    func since(step: Int) {
        var log = PhaseLog()
        var all: [StatusChange] = []
        var seen = 0
        for number in 1...600 {
            log.enter(number.isMultiple(of: 2) ? .postcopyPaused : .postcopyActive)
            if let last = log.changes.last { all.append(last) }
            guard number.isMultiple(of: step) else { continue }
            let kept = (seen..<number).filter {
                number <= 128 || $0 < 64 || $0 >= number - 64
            }
            #expect(log.changes(after: seen) == kept.map { all[$0] })
            seen = log.changeCount
            #expect(seen == number && log.changes(after: seen) == [])
        }
    }
}
