internal import Synchronization

/// What a reading task has not read yet: every status, and of figures only the newest.
final class ProgressFeed<Progress: Sendable>: Sendable {
    private struct State {
        var unread: [(progress: Progress, isStatus: Bool)] = []
        var readers: [CheckedContinuation<Progress?, Never>] = []
        var isEnded = false
        var whenLeft: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    /// As many as a report keeps: a link may break without end while nobody reads. Beyond it the oldest
    /// goes.
    private static var unreadMax: Int { 128 }

    init() {}

    deinit { leave() }

    /// Called once, when nobody reads any more.
    func whenLeft(_ body: @escaping @Sendable () -> Void) {
        state.withLock { $0.whenLeft = body }
    }

    /// Takes news in; waits for nobody.
    func post(_ progress: Progress, isStatus: Bool) {
        let reader = state.withLock { state -> CheckedContinuation<Progress?, Never>? in
            guard !state.isEnded else { return nil }
            if !state.readers.isEmpty { return state.readers.removeFirst() }
            if state.unread.last?.isStatus == false { state.unread.removeLast() }
            if state.unread.count == Self.unreadMax { state.unread.removeFirst() }
            state.unread.append((progress, isStatus))
            return nil
        }
        reader?.resume(returning: progress)
    }

    /// Nothing follows what is unread.
    func end() {
        let readers = state.withLock { state in
            state.isEnded = true
            defer { state.readers = [] }
            return state.readers
        }
        for reader in readers { reader.resume(returning: nil) }
        leave()
    }

    /// The oldest that is unread, as soon as there is one; `nil` at the end.
    func next() async -> Progress? {
        await withCheckedContinuation { continuation in
            let answer: Progress?? = state.withLock { state in
                if !state.unread.isEmpty { return state.unread.removeFirst().progress }
                if state.isEnded { return .some(nil) }
                state.readers.append(continuation)
                return nil
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    private func leave() {
        let body = state.withLock { state in
            defer { state.whenLeft = nil }
            return state.whenLeft
        }
        body?()
    }
}
