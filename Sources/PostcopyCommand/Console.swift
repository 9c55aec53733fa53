internal import Postcopy
internal import Foundation
internal import Glibc
internal import Synchronization

/// Where people read along: standard error. A bar that is redrawn on a terminal, plain lines
/// elsewhere, nothing when quiet.
final class Console: Sendable {
    enum Style: Sendable {
        case bar
        case lines
        case quiet
    }

    private struct State {
        var isBarShown = false
        var lastPhase = ""
        var lastLineAt: UInt64 = 0
    }

    let style: Style
    private let state = Mutex(State())

    /// One plain line a second at most, but for a new phase.
    private static let lineNanoseconds: UInt64 = 1_000_000_000

    init(quiet: Bool) {
        let isTerminal =
            isatty(STDERR_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb"
        style = quiet ? .quiet : isTerminal ? .bar : .lines
    }

    /// The width of what is printed; what the terminal says, what COLUMNS says, or 80.
    static func columns(of descriptor: Int32) -> Int {
        Terminal.columns(of: descriptor)
            ?? ProcessInfo.processInfo.environment["COLUMNS"].flatMap { Int($0) }
            .flatMap { (20...1000).contains($0) ? $0 : nil } ?? 80
    }

    /// Whether what is printed may have colours: on a terminal, unless NO_COLOR says otherwise
    /// (no-color.org).
    static func hasColours(_ descriptor: Int32) -> Bool {
        let environment = ProcessInfo.processInfo.environment
        return isatty(descriptor) == 1 && environment["TERM"] != "dumb"
            && (environment["NO_COLOR"] ?? "").isEmpty
    }

    /// A line that stays.
    func note(_ text: String) {
        guard style != .quiet else { return }
        clear()
        StandardStream.error.write(text + "\n")
    }

    /// A line that stays, and that must not be missed: also where it is quiet.
    func insist(_ text: String) {
        clear()
        StandardStream.error.write(text + "\n")
    }

    /// A line that the next one may replace.
    func show(_ progress: Progress) {
        switch style {
        case .quiet: break
        case .bar:
            let text = progress.bar(columns: Self.columns(of: STDERR_FILENO))
            state.withLock { $0.isBarShown = true }
            StandardStream.error.write("\r\u{1B}[K" + text)
        case .lines:
            let now = Monotonic.now()
            let isDue = state.withLock { state in
                guard
                    progress.phase != state.lastPhase
                        || now - state.lastLineAt >= Self.lineNanoseconds
                else { return false }
                state.lastPhase = progress.phase
                state.lastLineAt = now
                return true
            }
            if isDue { StandardStream.error.write(progress.line + "\n") }
        }
    }

    /// Removes the bar, before anything else is printed.
    func clear() {
        let wasShown = state.withLock { state in
            defer { state.isBarShown = false }
            return state.isBarShown
        }
        if wasShown { StandardStream.error.write("\r\u{1B}[K") }
    }
}
