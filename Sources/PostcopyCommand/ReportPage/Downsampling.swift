internal import Postcopy

/// Keeps a drawing small, however much there is to draw.
enum Downsampling {
    /// At most `count` of the elements, spread evenly, the first and the last among them.
    static func spread<Element>(_ elements: [Element], _ count: Int) -> [Element] {
        guard elements.count > count, count > 1 else { return elements }
        let last = elements.count - 1
        return (0..<count).map { elements[$0 * last / (count - 1)] }
    }

    /// The `count` largest by `size`, in the order in which they came.
    static func largest<Element>(
        _ elements: [Element], _ count: Int, by size: (Element) -> Double
    ) -> [Element] {
        guard elements.count > count else { return elements }
        return elements.enumerated().sorted { size($0.element) > size($1.element) }
            .prefix(count).sorted { $0.offset < $1.offset }.map(\.element)
    }

    /// The largest value in each of `count` equal parts of `span`; what is later replaces what is
    /// earlier, so that a part without a value has that of the part before.
    static func peaks(
        _ points: [Point], over span: ClosedRange<Double>, parts count: Int
    ) -> [Double] {
        var peaks: [Double?] = Array(repeating: nil, count: count)
        var last = [Double](repeating: 0, count: count)
        let width = span.upperBound - span.lowerBound
        for point in points where span.contains(point.at) {
            let place = width > 0 ? (point.at - span.lowerBound) / width * Double(count) : 0
            let part = min(count - 1, Int(place))
            peaks[part] = max(peaks[part] ?? 0, point.value)
            last[part] = point.value
        }
        var held = 0.0
        return peaks.enumerated().map { part, peak in
            guard let peak else { return held }
            held = last[part]
            return peak
        }
    }

    /// A line's height at each of `count + 1` evenly spaced places of `span`.
    static func resampled(
        _ points: [Point], over span: ClosedRange<Double>, parts count: Int
    ) -> [Double] {
        guard let first = points.first else { return Array(repeating: 0, count: count + 1) }
        var next = 0
        var before = first
        return (0...count).map { edge in
            let at =
                span.lowerBound
                + (span.upperBound - span.lowerBound) * Double(edge) / Double(count)
            while next < points.count, points[next].at <= at {
                before = points[next]
                next += 1
            }
            guard next < points.count, at >= before.at else { return before.value }
            let after = points[next]
            guard after.at > before.at else { return before.value }
            let share = (at - before.at) / (after.at - before.at)
            return before.value + (after.value - before.value) * share
        }
    }

    struct Point: Equatable {
        var at: Double
        var value: Double
    }
}

extension UInt64 {
    /// How far this is behind `origin`; 0 for what is before it.
    func since(_ origin: UInt64) -> Double { self > origin ? Double(self - origin) : 0 }

    /// The sum, or the largest number: a report may say anything.
    func adding(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    /// The nearest number that there is.
    init(nearest value: Double) {
        self = value > 0 ? value < 0x1p64 ? UInt64(value) : .max : 0
    }
}

extension Readable {
    static func time(_ nanoseconds: Double) -> String { time(UInt64(nearest: nanoseconds)) }
    static func bytes(_ count: Double) -> String { bytes(UInt64(nearest: count)) }
}
