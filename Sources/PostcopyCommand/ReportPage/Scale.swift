internal import Foundation

/// Where a value stands along an axis.
struct Scale {
    enum Kind {
        case linear
        /// For values above 0; a smaller one stands where the axis begins.
        case logarithmic
    }

    let kind: Kind
    let domain: ClosedRange<Double>
    /// From where to where the axis runs; it may run upwards, to smaller coordinates.
    let start: Double
    let end: Double

    /// - Precondition: a logarithmic domain begins above 0.
    init(_ kind: Kind, _ domain: ClosedRange<Double>, from start: Double, to end: Double) {
        precondition(kind == .linear || domain.lowerBound > 0)
        self.kind = kind
        self.domain = domain
        self.start = start
        self.end = end
    }

    /// The coordinate of `value`; what lies outside the domain stands at its end.
    func position(_ value: Double) -> Double {
        let inside = min(max(value, domain.lowerBound), domain.upperBound)
        let (low, high, at) =
            switch kind {
            case .linear: (domain.lowerBound, domain.upperBound, inside)
            case .logarithmic: (log(domain.lowerBound), log(domain.upperBound), log(inside))
            }
        guard high > low else { return start }
        return start + (at - low) / (high - low) * (end - start)
    }

    /// From where to where a range of values reaches on an axis that does not run backwards.
    func span(_ values: ClosedRange<Double>) -> ClosedRange<Double> {
        let from = position(values.lowerBound)
        return from...max(from, position(values.upperBound))
    }

    /// Round values inside the domain, at most `count` of them, in steps of 1, 2 or 5 and zeros
    /// times `unit`; powers of ten on a logarithmic axis.
    func ticks(_ count: Int, unit: Double = 1) -> [Double] {
        guard count > 0, domain.upperBound > domain.lowerBound else { return [domain.lowerBound] }
        switch kind {
        case .linear:
            let step = Self.step(
                atLeast: (domain.upperBound - domain.lowerBound) / unit / Double(count))
            let first = (domain.lowerBound / unit / step).rounded(.up)
            let last = (domain.upperBound / unit / step).rounded(.down)
            guard first <= last else { return [] }
            return (0...Int(last - first)).prefix(count + 1).map {
                (first + Double($0)) * step * unit
            }
        case .logarithmic:
            let first = Int(log10(domain.lowerBound / unit).rounded(.up))
            let last = Int((log10(domain.upperBound / unit) + 1e-9).rounded(.down))
            guard first <= last else { return [] }
            let stride = max(1, (last - first + count) / count)
            return Swift.stride(from: first, through: last, by: stride).map {
                pow(10, Double($0)) * unit
            }
        }
    }

    /// The smallest of 1, 2 and 5 with zeros that is no smaller.
    static func step(atLeast least: Double) -> Double {
        guard least > 0, least.isFinite else { return 1 }
        let power = pow(10, log10(least).rounded(.down))
        // A hair less, so that 0.1 + 0.2 is still 0.3.
        let factor = [1.0, 2, 5].first { $0 * power >= least * (1 - 1e-9) } ?? 10
        return factor * power
    }
}

/// What the numbers at an axis count: one unit for all of its ticks.
struct AxisUnit: Equatable {
    let name: String
    let size: Double

    private typealias Row = (size: Double, name: String)

    /// The unit for nanoseconds up to `largest`.
    static func time(upTo largest: Double) -> AxisUnit {
        pick([(1, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")], largest)
    }

    static func bytes(upTo largest: Double) -> AxisUnit {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"].enumerated()
        return pick(units.map { (pow(1024, Double($0.offset)), $0.element) }, largest)
    }

    static func count(upTo largest: Double) -> AxisUnit {
        pick([(1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")], largest)
    }

    private static func pick(_ rows: [Row], _ largest: Double) -> AxisUnit {
        let row = rows.last { $0.size <= largest } ?? rows[0]
        return AxisUnit(name: row.name, size: row.size)
    }

    /// A tick's value, with as many digits as a round one needs.
    func text(_ value: Double) -> String {
        let number = value / size
        let digits = [0, 1, 2].first { digits in
            let scaled = number * pow(10, Double(digits))
            return abs(scaled - scaled.rounded()) < 1e-6
        }
        let text = String(format: "%.\(digits ?? 3)f", number)
        return name.isEmpty
            ? text
            : name.count == 1 && name != "s" && name != "B"
                ? "\(text)\(name)" : "\(text) \(name)"
    }
}
