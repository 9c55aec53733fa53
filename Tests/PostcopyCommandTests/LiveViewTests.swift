import Postcopy
import TestSupport
import Testing

@testable import PostcopyCommand

/// What stands on a terminal while a migration runs.
@Suite struct LiveViewTests {
    private static let styles = [true, false].flatMap { colors in
        [true, false].map { ViewStyle(hasColors: colors, isUnicode: $0) }
    }

    private static let plain = ViewStyle(hasColors: false, isUnicode: false)

    private static func waits(_ counts: [Int: UInt64]) -> RecentWaits {
        var all = [UInt64](repeating: 0, count: LatencyBuckets.bucketCount)
        for (bucket, count) in counts { all[bucket] = count }
        return RecentWaits(buckets: LatencyBuckets(counts: all))
    }

    private static let views = [
        Progress(phase: "filling", fraction: 0),
        Progress(phase: "postcopy-recover", fraction: nil, isWarning: true),
        Progress(
            phase: "postcopy-active", fraction: 0.5,
            details: [
                "1.00 GiB sent", "262144 pages left", "12 requests", "1.00 GiB/s", "64 vCPUs wait",
            ], waits: waits([0: 1, 6: 900, 7: 300, 23: .max >> 8])),
        Progress(
            phase: "completed", fraction: 1, details: [String(repeating: "long ", count: 60)],
            waits: waits([:])),
        Progress(
            phase: "destination: a\u{1B}[2J\r\n\u{7}\u{9B}31m\u{202E}界e\u{301}👩‍👩‍👧 ä█",
            fraction: 0.3, details: ["\u{0}\t\u{7F}\u{85}\u{2028}"]),
    ]

    @Test("no line reaches the last column of any terminal", arguments: 1...200)
    func width(columns: Int) {
        for style in Self.styles {
            for view in Self.views {
                let wrong = view.frame(columns: columns, style: style).filter { line in
                    line.width >= columns || line.text.unicodeScalars.count != line.width
                }
                #expect(wrong.isEmpty)
            }
        }
    }

    @Test("a frame leaves a row of the terminal free, and has one line at least", arguments: 1...30)
    func height(rows: Int) {
        for view in Self.views {
            for columns in [5, 20, 80] {
                let count = view.frame(columns: columns, rows: rows, style: Self.plain).count
                #expect(count >= 1 && count <= max(1, rows - 1))
            }
        }
    }

    @Test("nothing that a name brings along moves the cursor, and only colours are escaped")
    func controls() {
        for style in Self.styles {
            for view in Self.views {
                for line in view.frame(columns: 60, style: style) {
                    let controls = line.text.unicodeScalars.filter {
                        $0.value < 0x20 || (0x7F..<0xA0).contains($0.value)
                            || $0.properties.isBidiControl
                    }
                    #expect(controls.isEmpty, "\(line.text)")
                    let isPlain = line.text.allSatisfy { $0.isASCII }
                    #expect(isPlain || style.isUnicode)
                    let escapes = line.rendered(in: style).count { $0 == "\u{1B}" }
                    let colored = line.pieces.count { $0.color != nil }
                    #expect(escapes == (style.hasColors ? 2 * colored : 0))
                }
            }
        }
    }

    @Test("at 20 columns all is said, line by line")
    func narrow() {
        let text = Self.views[2].frame(columns: 20, style: Self.plain).map(\.text)
        #expect(
            text == [
                "postcopy-activ  50%", " 1.00 GiB sent", " 262144 pages left", " 12 requests",
                " 1.00 GiB/s", " 64 vCPUs wait", " .  .       @",
                " p50 over 8.39 s", " p99 over 8.39 s",
            ])
    }

    @Test("at 80 columns it is a few lines, and the gauge grows from empty to full")
    func wide() {
        #expect(Self.views[2].frame(columns: 80, style: Self.plain).count == 3)
        var before = -1
        for step in 0...100 {
            let view = Progress(phase: "a", fraction: Double(step) / 100)
            let text = view.frame(columns: 80, style: Self.plain)[0].text
            let full = text.count { $0 == "#" }
            #expect(full >= before)
            before = full
            if step == 0 { #expect(full == 0) }
            if step == 100 { #expect(!text.contains("-") && text.hasSuffix("100%")) }
        }
    }

    @Test(
        "the strip shows a bar for each bucket that has waits, and says half and nearly all of them"
    )
    func strip() {
        let waits = Self.waits([6: 98, 10: 1, 12: 1])
        let style = ViewStyle(hasColors: false, isUnicode: true)
        let text = waits.lines(79, style).map(\.text).joined()
        #expect(text.contains("1us ······▇···▁·▁··········· 8s"), "\(text)")
        #expect(text.contains("p50 under 128 us") && text.contains("p99 under 2.05 ms"), "\(text)")
        #expect(Self.waits([:]).percentile(50, "p50") == nil)
        for percent in 1...100 as ClosedRange<UInt64> {
            #expect(Self.waits([3: 1]).percentile(percent, "p") == "p under 16.0 us")
        }
    }

    @Test("waits are those of the last second")
    func recent() {
        var meter = RecentWaitsMeter()
        var all = LatencyBuckets()
        for tick in 0..<50 as Range<UInt64> {
            let recent = meter.recent(all, at: tick * 100_000_000)
            #expect(recent.buckets.total == min(tick, 10), "at \(tick)")
            all.record(nanoseconds: 5_000)
        }
        #expect(meter.recent(all, at: 60_000_000_000).buckets.total == 1)
        #expect(meter.recent(all, at: 62_000_000_000).buckets.total == 0)
    }

    @Test("a frame is drawn over the last one and puts the cursor back where it began")
    func screen() {
        for count in 1...6 {
            let text = LiveScreen.frame((0..<count).map { "line \($0)" })
            #expect(text.count { $0 == "\r\n" } == count - 1)
            #expect(text.contains("\u{1B}[\(count - 1)A") == (count > 1))
            #expect(text.hasSuffix("\u{1B}[?7h\u{1B}[?25h"))
            #expect(!text.contains("\u{1B}[2J"))
        }
    }

    @Test("the locale and NO_COLOR say what the terminal is given")
    func environment() {
        func style(_ environment: [String: String]) -> [Bool] {
            let style = ViewStyle(environment: environment)
            return [style.hasColors, style.isUnicode]
        }
        #expect(style([:]) == [true, false])
        #expect(style(["LANG": "de_DE.UTF-8"]) == [true, true])
        #expect(style(["LANG": "C.utf8", "NO_COLOR": ""]) == [true, true])
        #expect(style(["LANG": "C.utf8", "NO_COLOR": "1"]) == [false, true])
        #expect(style(["LANG": "C.utf8", "LC_ALL": "C"]) == [true, false])
        #expect(style(["LC_CTYPE": "en_US.UTF-8", "LC_ALL": ""]) == [true, true])
    }
}
