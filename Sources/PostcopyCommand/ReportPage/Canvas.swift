/// A drawing of one width, which grows downwards.
struct Canvas {
    /// Each figure is drawn for both, and the style sheet shows one: text scales with a drawing, and
    /// what is drawn for a wide page cannot be read on a phone.
    enum Width: Double, CaseIterable {
        case narrow = 328
        case wide = 928
    }

    enum Anchor: String {
        case start
        case middle
        case end
    }

    let width: Width
    var height = 0.0
    private var front: [Markup] = []
    private var back: [Markup] = []
    private var isBehind = false

    init(_ width: Width) { self.width = width }

    var isNarrow: Bool { width == .narrow }
    /// Where axes begin: to the left of it stand their numbers.
    var left: Double { isNarrow ? 54 : 68 }
    var right: Double { width.rawValue - 10 }
    var fontSize: Double { isNarrow ? 11.5 : 13 }

    /// As wide as `text` is at most; digits of a wide font are 0.64 of its size.
    func textWidth(_ text: String) -> Double { Double(text.count) * fontSize * 0.64 }

    /// What of `text` fits into `width`.
    func fitting(_ text: String, _ width: Double) -> String {
        guard textWidth(text) > width else { return text }
        let count = Int(max(0, width) / (fontSize * 0.64)) - 1
        return count < 1 ? "" : text.prefix(count) + "…"
    }

    var marks: [Markup] { back + front }

    mutating func add(_ mark: Markup) {
        if isBehind { back.append(mark) } else { front.append(mark) }
    }

    /// What `draw` draws stands behind all else.
    mutating func behind(_ draw: (inout Canvas) -> Void) {
        isBehind = true
        draw(&self)
        isBehind = false
    }

    /// A part of the drawing with its name above it; answers from where to where it reaches.
    mutating func beginPanel(_ name: String, height panelHeight: Double) -> ClosedRange<Double> {
        let top = height + (height == 0 ? 0 : 16) + fontSize + 6
        text(name, left, top - 6, kind: "panel-name")
        height = top + panelHeight
        return top...height
    }

    mutating func text(
        _ text: String, _ x: Double, _ y: Double, _ anchor: Anchor = .start,
        kind: String = "label"
    ) {
        add(
            Markup(
                "text",
                ["class": "\(kind)", "x": "\(x)", "y": "\(y)", "text-anchor": "\(anchor.rawValue)"]
            ) { text })
    }

    /// - Parameter title: what a pointer that rests on it shows.
    mutating func rect(
        _ x: ClosedRange<Double>, _ y: ClosedRange<Double>, kind: String, title: String? = nil
    ) {
        // What took any time at all is seen.
        let width = max(1, x.upperBound - x.lowerBound)
        let attributes: Attributes = [
            "class": "\(kind)", "x": "\(x.lowerBound)", "y": "\(y.lowerBound)", "width": "\(width)",
            "height": "\(y.upperBound - y.lowerBound)",
        ]
        guard let title else { return add(Markup(empty: "rect", attributes)) }
        add(Markup("rect", attributes) { Markup("title") { title } })
    }

    mutating func path(_ path: String, kind: String) {
        add(Markup(empty: "path", ["class": "\(kind)", "d": "\(path)"]))
    }

    mutating func line(_ from: (Double, Double), _ to: (Double, Double), kind: String) {
        add(
            Markup(
                empty: "line",
                [
                    "class": "\(kind)", "x1": "\(from.0)", "y1": "\(from.1)", "x2": "\(to.0)",
                    "y2": "\(to.1)",
                ]))
    }

    /// Numbers below an axis that runs to the right, and lines up from them to `top`.
    mutating func horizontalAxis(_ scale: Scale, _ ticks: [Tick], top: Double, bottom: Double) {
        line((scale.start, bottom), (scale.end, bottom), kind: "axis")
        var taken = -Double.infinity
        for tick in ticks {
            let x = scale.position(tick.value)
            line((x, top), (x, bottom), kind: "grid")
            let half = textWidth(tick.text) / 2
            let middle = min(max(x, half), width.rawValue - half)
            guard middle - half > taken else { continue }
            text(tick.text, middle, bottom + fontSize + 5, .middle)
            taken = middle + half + fontSize / 2
        }
    }

    /// Numbers to the left of an axis that runs upwards, and lines from them to the right.
    mutating func verticalAxis(_ scale: Scale, _ ticks: [Tick]) {
        for tick in ticks {
            let y = scale.position(tick.value)
            line(
                (left, y), (right, y), kind: tick.value == scale.domain.lowerBound ? "axis" : "grid"
            )
            text(tick.text, left - 6, y + fontSize * 0.35, .end)
        }
    }

    struct Tick {
        let value: Double
        let text: String

        static func list(_ values: [Double], _ unit: AxisUnit) -> [Tick] {
            values.map { Tick(value: $0, text: unit.text($0)) }
        }
    }
}

/// A path of straight lines.
struct Path {
    private(set) var text = ""

    mutating func move(_ x: Double, _ y: Double) {
        text += "M\(Coordinate.text(x)) \(Coordinate.text(y))"
    }

    mutating func line(_ x: Double, _ y: Double) {
        text += "L\(Coordinate.text(x)) \(Coordinate.text(y))"
    }

    mutating func rect(_ x: Double, _ y: Double, _ width: Double, _ height: Double) {
        let (width, height) = (Coordinate.text(width), Coordinate.text(height))
        text += "M\(Coordinate.text(x)) \(Coordinate.text(y))h\(width)v\(height)h-\(width)z"
    }
}
