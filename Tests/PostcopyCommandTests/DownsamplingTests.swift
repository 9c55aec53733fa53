import TestSupport
import Testing

@testable import PostcopyCommand

@Suite struct DownsamplingTests {
    private typealias Point = Downsampling.Point

    @Test("as many are kept as asked for, in their order, with the first and the last")
    func spread() {
        for count in [0, 1, 5, 40, 41, 10_000] {
            let elements = Array(0..<count)
            let kept = Downsampling.spread(elements, 40)
            #expect(kept.count == min(count, 40))
            #expect(kept == kept.sorted() && Set(kept).count == kept.count)
            #expect(kept.first == elements.first && kept.last == elements.last)
        }
    }

    @Test("the largest are kept, in their order")
    func largest() {
        let kept = Downsampling.largest([3, 9, 1, 8, 2, 7], 3) { Double($0) }
        #expect(kept == [9, 8, 7])
        #expect(Downsampling.largest([2, 1], 3) { Double($0) } == [2, 1])
    }

    @Test("no peak is lost, and a part without a value holds the last one")
    func peaks() {
        var random = SeededRandom(seed: 5)
        for _ in 0..<100 {
            let points = (0..<500).map { Point(at: Double($0), value: Double(random.below(1_000))) }
            let peaks = Downsampling.peaks(points, over: 0...500, parts: 37)
            #expect(peaks.count == 37)
            #expect(peaks.max() == points.map(\.value).max())
        }
        let few = [Point(at: 0, value: 5), Point(at: 1, value: 2), Point(at: 99, value: 1)]
        #expect(Downsampling.peaks(few, over: 0...100, parts: 4) == [5, 2, 2, 1])
        #expect(Downsampling.peaks([], over: 0...0, parts: 2) == [0, 0])
    }

    @Test("a line that grows is resampled to one that grows, between the same ends")
    func resampling() {
        var total = 0.0
        var random = SeededRandom(seed: 6)
        let points = (0..<300).map { index -> Point in
            total += Double(random.below(100))
            return Point(at: Double(index), value: total)
        }
        let values = Downsampling.resampled(points, over: 0...299, parts: 50)
        #expect(values.count == 51 && values == values.sorted())
        #expect(values.first == points.first?.value && values.last == points.last?.value)
        let two = [Point(at: 0, value: 0), Point(at: 10, value: 10)]
        #expect(Downsampling.resampled(two, over: 0...10, parts: 5) == [0, 2, 4, 6, 8, 10])
    }

    @Test("spans that touch are one")
    func union() {
        #expect(TimeLine.union([5...6, 0...2, 1...3, 3...4]) == [0...4, 5...6])
        #expect(TimeLine.union([]).isEmpty)
    }

    @Test("counts of a map are the same by a coarser grid, and so are those of bars")
    func sums() {
        var random = SeededRandom(seed: 7)
        let cells = (0..<400).map { _ in
            MapFigure.Cell(
                column: random.below(120), row: random.below(64), count: UInt64(random.below(50)))
        }
        let coarse = MapFigure.coarser(cells, from: (120, 64), to: (40, 24))
        #expect(coarse.reduce(0) { $0 + $1.count } == cells.reduce(0) { $0 + $1.count })
        #expect(coarse.count <= 40 * 24)
        #expect(coarse.allSatisfy { (0..<40).contains($0.column) && (0..<24).contains($0.row) })

        let values = (0..<5_000).map { _ in UInt64(random.below(1_000_000_000)) }.sorted()
        let bins = LatencyFigure.bins(
            HistogramFigures(valuesNs: values, counts: values.map { $0 % 7 }))
        #expect(bins.reduce(0) { $0 + $1.count } == values.reduce(0) { $0 + $1 % 7 })
        #expect(bins.count <= 100)
        #expect(zip(bins, bins.dropFirst()).allSatisfy { $0.toNs <= $1.fromNs * 1.001 })
    }
}
