internal import LinuxKernel
internal import Synchronization

/// Messages from several threads to one, which a flag wakes. The flag may serve other mailboxes too.
final class Mailbox<Message: Sendable>: Sendable {
    private let messages: Mutex<[Message]>
    private let capacity: Int
    private let flag: EventFlag

    init(capacity: Int, flag: EventFlag) {
        self.capacity = capacity
        self.flag = flag
        var storage: [Message] = []
        storage.reserveCapacity(capacity)
        messages = Mutex(storage)
    }

    /// Hands over what the runtime itself has to say: few messages in a migration's life, and none of
    /// them may be lost.
    func post(_ message: Message) {
        messages.withLock { $0.append(message) }
        flag.raise()
    }

    /// Hands over what a peer, a user or a page may cause any number of; `false` when full.
    @discardableResult
    func offer(_ message: Message) -> Bool {
        let isTaken = messages.withLock { messages in
            guard messages.count < capacity else { return false }
            messages.append(message)
            return true
        }
        flag.raise()
        return isTaken
    }

    /// Throws away what nobody has taken.
    func clear() { messages.withLock { $0.removeAll(keepingCapacity: true) } }

    /// Takes all messages; `taken` must be empty and gives its storage in exchange.
    func drain(into taken: inout [Message]) {
        messages.withLock { messages in swap(&messages, &taken) }
    }
}
