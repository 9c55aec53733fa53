/// One bar that begins at a common line, with its name and its value.
struct BarRow {
    let name: String
    let value: Double
    let text: String
    let kind: String

    /// The longest one fills the width; the axis is linear and begins at 0.
    static func draw(_ rows: [BarRow], _ canvas: inout Canvas) {
        let largest = max(1, rows.map(\.value).max() ?? 1)
        if canvas.isNarrow {
            drawBelow(rows, largest, &canvas)
        } else {
            drawBeside(rows, largest, &canvas)
        }
    }

    /// Name, bar and value in one line.
    private static func drawBeside(_ rows: [BarRow], _ largest: Double, _ canvas: inout Canvas) {
        let nameWidth = min(
            canvas.width.rawValue * 0.28, rows.map { canvas.textWidth($0.name) }.max() ?? 0)
        let valueWidth = rows.map { canvas.textWidth($0.text) }.max() ?? 0
        let left = nameWidth + 10
        let scale = Scale(.linear, 0...largest, from: left, to: canvas.right - valueWidth - 8)
        let (height, gap) = (16.0, 8.0)
        let top = canvas.height
        for row in rows {
            let bar = canvas.height...canvas.height + height
            let baseline = bar.upperBound - (height - canvas.fontSize * 0.72) / 2
            canvas.text(canvas.fitting(row.name, nameWidth), left - 8, baseline, .end)
            let end = scale.position(row.value)
            canvas.rect(left...end, bar, kind: row.kind, title: "\(row.name): \(row.text)")
            canvas.text(row.text, max(left + 1, end) + 6, baseline, kind: "value")
            canvas.height = bar.upperBound + gap
        }
        canvas.line((left, top), (left, canvas.height - gap), kind: "axis")
    }

    /// Where there is no room beside them: name and value above the bar.
    private static func drawBelow(_ rows: [BarRow], _ largest: Double, _ canvas: inout Canvas) {
        let end = canvas.width.rawValue
        let scale = Scale(.linear, 0...largest, from: 0, to: end)
        let (height, gap) = (10.0, 9.0)
        for row in rows {
            let baseline = canvas.height + canvas.fontSize
            let room = end - canvas.textWidth(row.text) - 8
            canvas.text(canvas.fitting(row.name, room), 0, baseline)
            canvas.text(row.text, end, baseline, .end, kind: "value")
            let bar = baseline + 4...baseline + 4 + height
            canvas.rect(
                0...scale.position(row.value), bar, kind: row.kind,
                title: "\(row.name): \(row.text)")
            canvas.height = bar.upperBound + gap
        }
    }
}
