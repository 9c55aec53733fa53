internal import Postcopy
internal import Foundation
internal import Glibc
internal import Synchronization

/// Where people read along: standard error. A few lines that are redrawn on a terminal, plain lines
/// elsewhere, nothing when quiet.
final class Console: Sendable {
    enum Style: Sendable {
        case view(ViewStyle)
        case lines
        case quiet
    }

    private struct State {
        var lastPhase = ""
        var lastShownAt: UInt64 = 0
    }

    let style: Style
    private let state = Mutex(State())

    /// One plain line a second at most, but for a new phase.
    private static let lineNanoseconds: UInt64 = 1_000_000_000
    /// Ten frames a second, however often somebody shows: a little less than that apart.
    private static let frameNanoseconds = Attendance.drawNanoseconds * 9 / 10

    init(quiet: Bool) {
        let environment = ProcessInfo.processInfo.environment
        let isTerminal = isatty(STDERR_FILENO) == 1 && environment["TERM"] != "dumb"
        style =
            quiet
            ? .quiet : isTerminal ? .view(ViewStyle(environment: environment)) : .lines
    }

    /// The width of what is printed; what the terminal says, what COLUMNS says, or 80.
    static func columns(of descriptor: Int32) -> Int {
        Terminal.columns(of: descriptor)
            ?? ProcessInfo.processInfo.environment["COLUMNS"].flatMap { Int($0) }
            .flatMap { (20...1000).contains($0) ? $0 : nil } ?? 80
    }

    /// Whether what is printed may have colours: on a terminal, unless NO_COLOR says otherwise
    /// (no-color.org).
    static func hasColors(_ descriptor: Int32) -> Bool {
        let environment = ProcessInfo.processInfo.environment
        return isatty(descriptor) == 1 && environment["TERM"] != "dumb"
            && ViewStyle(environment: environment).hasColors
    }

    /// A line that stays.
    func note(_ text: String) {
        if case .quiet = style { return }
        clear()
        StandardStream.error.write(text + "\n")
    }

    /// A line that stays, and that must not be missed: also where it is quiet.
    func insist(_ text: String) {
        clear()
        StandardStream.error.write(text + "\n")
    }

    /// What the next call may replace.
    func show(_ progress: Progress) {
        switch style {
        case .quiet: break
        case .view(let style):
            guard isDue(progress, after: Self.frameNanoseconds) else { return }
            // Asked each time: a terminal may have been resized.
            let size = Terminal.size(of: STDERR_FILENO) ?? (Self.columns(of: STDERR_FILENO), .max)
            let frame = progress.frame(columns: size.columns, rows: size.rows, style: style)
            LiveScreen.show(frame.map { $0.rendered(in: style) })
        case .lines:
            guard isDue(progress, after: Self.lineNanoseconds) else { return }
            StandardStream.error.write(progress.line + "\n")
        }
    }

    /// Whether there is a new phase, or enough time has passed.
    private func isDue(_ progress: Progress, after nanoseconds: UInt64) -> Bool {
        let now = Monotonic.now()
        return state.withLock { state in
            guard progress.phase != state.lastPhase || now - state.lastShownAt >= nanoseconds
            else { return false }
            state.lastPhase = progress.phase
            state.lastShownAt = now
            return true
        }
    }

    /// Removes the view, before anything else is printed.
    func clear() { LiveScreen.clear() }
}

/// The lines of the live view on the terminal of this process.
///
/// Between two frames the cursor stands where the view begins, and is visible: a terminal that is resized,
/// and wraps lines anew or does not, keeps the cursor with what stands there, and whatever ends this
/// process leaves nothing to be put right.
enum LiveScreen {
    /// Relaxed: a flag by itself.
    private static let isShown = Atomic(false)

    /// Draws a frame over the last one, in one write. Lines must be narrower than the terminal.
    static func show(_ lines: [String]) {
        isShown.store(true, ordering: .relaxed)
        StandardStream.error.write(frame(lines))
    }

    /// The cursor is out of sight meanwhile, and nothing wraps: a terminal may have become narrower since
    /// it was asked. What the last frame had more, to the right and below, goes.
    static func frame(_ lines: [String]) -> String {
        let up = lines.count > 1 ? "\u{1B}[\(lines.count - 1)A" : ""
        return "\u{1B}[?25l\u{1B}[?7l\r" + lines.map { "\($0)\u{1B}[K" }.joined(separator: "\r\n")
            + "\u{1B}[J\r\(up)\u{1B}[?7h\u{1B}[?25h"
    }

    /// Removes it where it is shown.
    static func clear() {
        guard isShown.exchange(false, ordering: .relaxed) else { return }
        StandardStream.error.write("\r\u{1B}[J")
    }
}
