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

    /// Hands a message over and wakes the reader; `false` when the mailbox is full.
    @discardableResult
    func post(_ message: Message) -> Bool {
        let isTaken = messages.withLock { messages in
            guard messages.count < capacity else { return false }
            messages.append(message)
            return true
        }
        flag.raise()
        return isTaken
    }

    /// Takes all messages; `taken` must be empty and gives its storage in exchange.
    func drain(into taken: inout [Message]) {
        messages.withLock { messages in swap(&messages, &taken) }
    }
}
