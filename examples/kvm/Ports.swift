import KVMGuest
import Postcopy
import Synchronization

/// The devices of one vCPU: a console for text, and a port for addresses of words that are wrong. What
/// was said so far, also half a line, moves with the guest.
final class Ports: Sendable {
    struct State: Equatable, Sendable {
        /// The guest says one after each round through its memory.
        var lines: UInt64 = 0
        var complaints: UInt64 = 0
        var firstComplaint: UInt64 = 0
        var unfinished: [UInt8] = []
    }

    private let current: Mutex<State>
    /// The last line, and what the guest did that this machine does not know.
    private let heard = Mutex<(line: String, trouble: String?)>(("nothing", nil))
    /// Raised when either changes.
    private let news: EventFlag

    init(_ state: State = State(), news: EventFlag) {
        current = Mutex(state)
        self.news = news
    }

    var state: State { current.withLock { $0 } }
    var lastLine: String { heard.withLock { $0.line } }
    var trouble: String? { heard.withLock { $0.trouble } }

    /// Takes what the guest writes to a port; answers `false` when it left for anything else.
    func take(_ exit: Result<VCPUExit, Errno>) -> Bool {
        guard case .success(.output(let port, let value)) = exit else {
            heard.withLock { $0.trouble = "a vCPU left its guest by \(exit)" }
            news.raise()
            return false
        }
        if port == GUEST_CONSOLE { take(UInt8(truncatingIfNeeded: value)) }
        if port == GUEST_COMPLAINT {
            current.withLock { state in
                if state.complaints == 0 { state.firstComplaint = UInt64(value) }
                state.complaints += 1
            }
        }
        return true
    }

    private func take(_ byte: UInt8) {
        let line = current.withLock { state -> [UInt8]? in
            state.unfinished.append(byte)
            let isWhole = byte == UInt8(ascii: "\n")
            guard isWhole || state.unfinished.count == State.lineBytesMax else { return nil }
            defer { state.unfinished = [] }
            state.lines += 1
            return state.unfinished
        }
        guard let line else { return }
        heard.withLock { $0.line = String(decoding: line.dropLast(), as: UTF8.self) }
        news.raise()
    }
}

extension Ports.State {
    /// The guest's lines are shorter.
    fileprivate static let lineBytesMax = 80

    /// Three numbers, the most significant byte first, and the unfinished line.
    func encoded() -> [UInt8] {
        let numbers = [lines, complaints, firstComplaint].flatMap { number in
            (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * $0)) }
        }
        return numbers + unfinished
    }

    /// `nil` for what `encoded` never gives.
    init?(decoding bytes: [UInt8]) {
        guard (24..<24 + Self.lineBytesMax).contains(bytes.count) else { return nil }
        let numbers = (0..<3).map { index in
            bytes[index * 8..<index * 8 + 8].reduce(0) { $0 << 8 | UInt64($1) }
        }
        (lines, complaints, firstComplaint) = (numbers[0], numbers[1], numbers[2])
        unfinished = Array(bytes[24...])
    }
}
