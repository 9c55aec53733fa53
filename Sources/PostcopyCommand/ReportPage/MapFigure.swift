internal import Postcopy

/// Where in memory and when pages were waited for and placed.
struct MapFigure {
    private let map: MapFigures
    private let time: TimeLine
    private let layers: [Layer]

    private struct Layer {
        let name: String
        let kind: String
        let cells: [Cell]
    }

    /// A part of memory during a part of the time, both as shares of the whole.
    struct Cell: Equatable {
        let column: Int
        let row: Int
        let count: UInt64
    }

    /// Shades of one colour; each is one path, however many cells it has.
    private static let shades = 4
    /// Cells that a report may have on a side; what says more is not the work of this program.
    private static let sideMax = 1 << 20

    /// `nil` where there is no map, or none that can be drawn.
    init?(_ document: ReportDocument, _ time: TimeLine) {
        guard let map = document.flight?.map,
            (1...Self.sideMax).contains(map.columns), (1...Self.sideMax).contains(map.rows),
            map.toNs > map.fromNs
        else { return nil }
        self.map = map
        self.time = time
        layers = [
            ("Faults", "map-fault", map.faults), ("Urgent pages", "map-urgent", map.urgent),
            ("Background pages", "map-background", map.background),
        ].map { name, kind, pairs in
            Layer(name: name, kind: kind, cells: Self.cells(pairs, map))
        }
    }

    private static func cells(_ pairs: [[UInt64]], _ map: MapFigures) -> [Cell] {
        pairs.compactMap { pair in
            guard pair.count == 2, pair[1] > 0,
                pair[0] < UInt64(map.columns) * UInt64(map.rows)
            else { return nil }
            let place = Int(pair[0])
            return Cell(
                column: place % map.columns, row: place / map.columns, count: pair[1])
        }
    }

    /// The same counts by a coarser grid.
    static func coarser(
        _ cells: [Cell], from: (columns: Int, rows: Int), to: (columns: Int, rows: Int)
    ) -> [Cell] {
        var counts: [Int: UInt64] = [:]
        for cell in cells {
            let place =
                cell.row * to.rows / from.rows * to.columns + cell.column * to.columns
                / from.columns
            counts[place] = (counts[place] ?? 0).adding(cell.count)
        }
        return counts.sorted { $0.key < $1.key }.map { place, count in
            Cell(column: place % to.columns, row: place / to.columns, count: count)
        }
    }

    private func total(_ layer: Layer) -> UInt64 {
        layer.cells.reduce(0) { $0.adding($1.count) }
    }

    var figure: Figure {
        Figure(
            id: "map", title: "Where and when pages were missing", summary: summary,
            legend: [.init(kind: "map-shades", text: "the darker, the more host pages")],
            table: table, draw: draw)
    }

    private var summary: String {
        let counts = layers.map { "\(total($0)) \($0.name.lowercased())" }
        return "From left to right the time, from top to bottom \(Readable.bytes(map.bytes)) of "
            + "memory, all blocks laid end to end. There were \(counts.joined(separator: ", "))."
    }

    /// By eighths of memory: who cannot see the map learns where the work was.
    private var table: DataTable {
        let parts = min(8, map.rows)
        let rows = (0..<parts).map { part in
            let from = map.bytes / UInt64(parts) * UInt64(part)
            let counts = layers.map { layer in
                layer.cells.filter { $0.row * parts / map.rows == part }
                    .reduce(UInt64(0)) { $0.adding($1.count) }
            }
            return [
                "\(Readable.bytes(from)) to \(Readable.bytes(from.adding(map.bytes / UInt64(parts))))"
            ] + counts.map { "\($0)" }
        }
        return DataTable(
            caption: "Host pages by part of memory",
            head: ["Memory"] + layers.map(\.name), rows: rows)
    }

    // MARK: Drawing

    private func draw(_ canvas: inout Canvas) {
        let from = map.fromNs.since(time.origin)
        let to = max(from + 1, map.toNs.since(time.origin))
        let scale = Scale(.linear, from...to, from: canvas.left, to: canvas.right)
        let grid = (
            columns: min(map.columns, canvas.isNarrow ? 40 : 96),
            rows: min(map.rows, canvas.isNarrow ? 24 : 28)
        )
        let top = canvas.height
        for layer in layers { drawLayer(layer, &canvas, grid) }
        let bottom = canvas.height
        canvas.behind { canvas in
            let unit = AxisUnit.time(upTo: to)
            let ticks = scale.ticks(canvas.isNarrow ? 4 : 9, unit: unit.size)
            canvas.horizontalAxis(
                scale, Canvas.Tick.list(ticks, unit), top: top, bottom: bottom)
        }
        canvas.height = bottom + canvas.fontSize + 12
    }

    private func drawLayer(
        _ layer: Layer, _ canvas: inout Canvas, _ grid: (columns: Int, rows: Int)
    ) {
        let panel = canvas.beginPanel("\(layer.name): \(total(layer))", height: 112)
        // Downwards: the first block's first byte is at the top.
        let memory = Scale(
            .linear, 0...max(1, Double(map.bytes)), from: panel.lowerBound, to: panel.upperBound)
        let unit = AxisUnit.bytes(upTo: Double(map.bytes))
        canvas.verticalAxis(memory, Canvas.Tick.list(memory.ticks(2, unit: unit.size), unit))
        let cells = Self.coarser(layer.cells, from: (map.columns, map.rows), to: grid)
        let most = Double(cells.map(\.count).max() ?? 1)
        let width = (canvas.right - canvas.left) / Double(grid.columns)
        let height = (panel.upperBound - panel.lowerBound) / Double(grid.rows)
        for shade in 1...Self.shades {
            var path = Path()
            for cell in cells where Self.shade(Double(cell.count), of: most) == shade {
                path.rect(
                    canvas.left + Double(cell.column) * width,
                    panel.lowerBound + Double(cell.row) * height, width, height)
            }
            if !path.text.isEmpty {
                canvas.path(path.text, kind: "\(layer.kind) shade-\(shade)")
            }
        }
    }

    /// By square root, so that a few cells with very much do not hide all others.
    private static func shade(_ count: Double, of most: Double) -> Int {
        min(shades, 1 + Int((count / most).squareRoot() * Double(shades)))
    }
}
