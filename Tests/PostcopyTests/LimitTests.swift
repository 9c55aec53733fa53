import Postcopy
import TestSupport
import Testing

/// Limits that are changed in the middle. Rates are bounded from above alone: a busy machine is slower.
@Suite struct LimitTests {
    /// Of which little is sent at the lowest rate before a test gives up.
    private static let megabytes: UInt64 = 64
    private static let slow: UInt64 = 128 << 10
    private static let quick: UInt64 = 4 << 20

    @Test("a bandwidth that is raised or lowered in the middle of a precopy holds at once")
    func precopy() throws {
        var sends = MigrationOptions()
        var precopy = PrecopyOptions()
        // It never ends by itself.
        precopy.switchover = try SwitchoverSettings(
            downtimeLimitNanoseconds: nil, isAutomatic: false)
        sends.precopy = precopy
        sends.maxBandwidth = Self.slow
        let ends = try TwoEnds(megabytes: Self.megabytes, sends: sends)
        try ends.start()
        try expectLimited(ends) { limits, rate in limits.maxBandwidth = rate }
        #expect(ends.source.progress.status == .active)
        try ends.source.setLimits { $0.maxBandwidth = nil }
        #expect(eventually { (ends.source.progress.precopy?.roundCount ?? 0) > 0 })
        ends.source.startPostcopy()
        try ends.expectMoved()
    }

    @Test("a bandwidth that is raised or lowered in the middle of a postcopy holds at once")
    func postcopy() throws {
        var sends = MigrationOptions()
        sends.maxPostcopyBandwidth = Self.slow
        let ends = try TwoEnds(megabytes: Self.megabytes, sends: sends)
        ends.source.startPostcopy()
        try ends.start()
        #expect(eventually { ends.source.progress.status == .postcopyActive })
        try expectLimited(ends) { limits, rate in limits.maxPostcopyBandwidth = rate }
        #expect(ends.source.progress.status == .postcopyActive)
        // What is over is left alone, and does no harm.
        try ends.source.setLimits { limits in
            limits.maxBandwidth = 1
            limits.maxPostcopyBandwidth = nil
        }
        try ends.expectMoved()
    }

    @Test("a downtime limit that is raised lets a precopy complete, and without one it goes on")
    func downtime() throws {
        var sends = MigrationOptions()
        var precopy = PrecopyOptions()
        precopy.switchover = try SwitchoverSettings(
            downtimeLimitNanoseconds: nil, isAutomatic: false)
        sends.precopy = precopy
        let ends = try TwoEnds(sends: sends)
        try ends.start()
        #expect(eventually { (ends.source.progress.precopy?.roundCount ?? 0) > 3 })
        #expect(ends.source.progress.status == .active)
        try ends.source.setLimits { $0.downtimeLimitNanoseconds = 2_000_000_000 }
        try ends.expectMoved()
        let report = try ends.source.ended()
        #expect(report.precopy?.decision?.rule == .fitsDowntime)
        #expect(report.precopy?.decision?.settings?.downtimeLimitNanoseconds == 2_000_000_000)
    }

    @Test("who changes one limit does not undo what another changes at the same time")
    func together() throws {
        let source = try TwoEnds().source
        let last: UInt64 = 2_000
        let changes: [@Sendable (inout MigrationLimits, UInt64) -> Void] = [
            { $0.maxBandwidth = $1 }, { $0.maxPostcopyBandwidth = $1 },
        ]
        let threads = try changes.map { change in
            try Bounded("limiter") {
                Result { for rate in 1...last { try source.setLimits { change(&$0, rate) } } }
            }
        }
        for thread in threads { try #require(thread.output()).get() }
        #expect(source.limits.maxBandwidth == last)
        #expect(source.limits.maxPostcopyBandwidth == last)
    }

    @Test("limits that cannot be are refused by name, and change nothing")
    func refused() throws {
        let ends = try TwoEnds()
        let source = ends.source
        #expect(source.limits == MigrationLimits())
        #expect(throws: ConfigurationError.zeroBandwidth(option: "maxBandwidth")) {
            try source.setLimits { limits in
                limits.maxPostcopyBandwidth = 5
                limits.maxBandwidth = 0
            }
        }
        #expect(throws: ConfigurationError.zeroBandwidth(option: "maxPostcopyBandwidth")) {
            try source.setLimits { $0.maxPostcopyBandwidth = 0 }
        }
        #expect(throws: ConfigurationError.noPrecopyToLimit) {
            try source.setLimits { $0.downtimeLimitNanoseconds = 5 }
        }
        #expect(source.limits == MigrationLimits())
        var sends = MigrationOptions()
        sends.precopy = PrecopyOptions()
        let other = try TwoEnds(sends: sends).source
        #expect(other.limits.downtimeLimitNanoseconds == 300_000_000)
        #expect(throws: ConfigurationError.precopy(.noDowntime)) {
            try other.setLimits { $0.downtimeLimitNanoseconds = 0 }
        }
        #expect(throws: ConfigurationError.self) {
            try other.setLimits { $0.downtimeLimitNanoseconds = .max }
        }
        #expect(other.limits.downtimeLimitNanoseconds == 300_000_000)
    }

    /// Raises the rate, and sees it kept; lowers it, and sees that kept as well.
    private func expectLimited(
        _ ends: TwoEnds, _ set: (inout MigrationLimits, UInt64) -> Void
    ) throws {
        let source = ends.source
        var sent: UInt64 { source.progress.sentBytes.total }
        try expectRate(Self.slow, of: source)
        // At the rate before it, this would take half a minute.
        try source.setLimits { set(&$0, Self.quick) }
        let before = sent
        #expect(eventually(withinSeconds: 15) { sent > before + 3 << 20 })
        try source.setLimits { set(&$0, Self.slow) }
        try expectRate(Self.slow, of: source)
    }

    /// Sees 16 pages pass, and no faster than that.
    private func expectRate(_ rate: UInt64, of source: MigrationSource) throws {
        let (before, start) = (source.progress.sentBytes.total, Monotonic.now())
        #expect(eventually { source.progress.sentBytes.total > before + 16 * 4_096 })
        let (after, end) = (source.progress.sentBytes.total, Monotonic.now())
        // What was in a write under way, and the arrears of 5 ms at the higher rate.
        let burst: UInt64 = 256 << 10
        #expect(after - before <= burst + rate * (end - start) / 1_000_000_000)
    }
}
