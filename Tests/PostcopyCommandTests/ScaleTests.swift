import TestSupport
import Testing

@testable import PostcopyCommand

@Suite struct ScaleTests {
    @Test("positions keep the order of values and stay on the axis, whatever the values are")
    func positions() {
        var random = SeededRandom(seed: 3)
        for kind in [Scale.Kind.linear, .logarithmic] {
            for _ in 0..<200 {
                let low = Double(1 + random.below(1_000))
                let high = low + Double(random.below(1_000_000))
                let scale = Scale(kind, low...high, from: 10, to: 110)
                let values = (0..<20).map { _ in Double(random.below(2_000_000)) - 1_000 }.sorted()
                let places = values.map(scale.position)
                #expect(places == places.sorted())
                #expect(places.allSatisfy { (10...110).contains($0) })
            }
        }
    }

    @Test("the ends of the domain are the ends of the axis, and a power of ten is a like step")
    func ends() {
        let linear = Scale(.linear, 0...50, from: 100, to: 0)
        #expect(linear.position(0) == 100 && linear.position(50) == 0 && linear.position(25) == 50)
        let decades = Scale(.logarithmic, 1...1_000, from: 0, to: 30)
        for (value, place) in [(1.0, 0.0), (10, 10), (100, 20), (1_000, 30)] {
            #expect(abs(decades.position(value) - place) < 1e-9)
        }
        let point = Scale(.linear, 7...7, from: 3, to: 9)
        #expect(point.position(7) == 3 && point.ticks(4) == [7])
    }

    @Test("ticks are round, inside the domain, in order, and no more than asked for and one")
    func ticks() {
        var random = SeededRandom(seed: 4)
        for _ in 0..<500 {
            let low = Double(random.below(1_000))
            let high =
                low + Double(1 + random.below(1_000_000_000)) / Double(1 + random.below(1_000))
            let count = 2 + random.below(10)
            for scale in [
                Scale(.linear, low...high, from: 0, to: 1),
                Scale(.logarithmic, (low + 1)...(high + 1), from: 0, to: 1),
            ] {
                let ticks = scale.ticks(count)
                #expect(ticks.count <= count + 1)
                #expect(ticks == ticks.sorted())
                let slack = 1e-9 * scale.domain.upperBound
                #expect(
                    ticks.allSatisfy {
                        $0 >= scale.domain.lowerBound - slack
                            && $0 <= scale.domain.upperBound + slack
                    })
            }
        }
    }

    @Test(
        "a step is 1, 2 or 5 and zeros",
        arguments: [
            (0.3, 0.5), (1, 1), (1.01, 2), (2.1, 5), (5.1, 10), (199, 200), (0, 1), (.infinity, 1),
        ] as [(Double, Double)])
    func steps(least: Double, step: Double) {
        #expect(abs(Scale.step(atLeast: least) - step) < 1e-9 * step)
    }

    @Test("an axis has one unit, and its ticks no more digits than they need")
    func units() {
        #expect(AxisUnit.time(upTo: 2.5e9).text(5e8) == "0.5 s")
        #expect(AxisUnit.time(upTo: 9e5).text(250e3) == "250 us")
        #expect(AxisUnit.bytes(upTo: 3 * 1_073_741_824).text(1_610_612_736) == "1.5 GiB")
        #expect(AxisUnit.bytes(upTo: 0).text(0) == "0 B")
        #expect(AxisUnit.count(upTo: 4_000).text(1_000) == "1k")
        #expect(AxisUnit.count(upTo: 4).text(2) == "2")
    }
}
