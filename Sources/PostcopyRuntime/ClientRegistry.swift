internal import Synchronization

/// The clients of one destination: attached by the embedder's threads, served by the fault thread,
/// released by whoever ends the faults.
final class ClientRegistry: Sendable {
    private let members = Mutex(Members())
    /// How often they have changed. Acquiring: who sees a change sees the members.
    let changes = Atomic(0)
    /// Whether their faults may be answered: once missing pages are reported here. Before, a page that
    /// came may still be sent again, and the source takes no request.
    let areServed = Atomic(false)

    /// What became of the pages, for clients that come later.
    enum Ending {
        case pagesAreHere
        case pagesAreLost
    }

    private struct Members {
        var attached: [AttachedClient] = []
        var ending: Ending?
    }

    var current: [AttachedClient] { members.withLock { $0.attached } }

    /// Takes a client in, unless no page will come any more: then answers how that ended.
    func add(_ client: AttachedClient) -> Ending? {
        let ending = members.withLock { members in
            if members.ending == nil { members.attached.append(client) }
            return members.ending
        }
        changes.add(1, ordering: .releasing)
        return ending
    }

    /// Takes a client out; `false` when it is not here.
    func remove(_ client: SharedClient) -> Bool {
        let isFound = members.withLock { members in
            let count = members.attached.count
            members.attached.removeAll { $0.client === client }
            return members.attached.count < count
        }
        changes.add(1, ordering: .releasing)
        return isFound
    }

    /// Takes nobody in from here on; answers who must be released. The first word on how it ended holds.
    func end(_ ending: Ending) -> [AttachedClient] {
        let left = members.withLock { members in
            if members.ending == nil { members.ending = ending }
            defer { members.attached = [] }
            return members.attached
        }
        changes.add(1, ordering: .releasing)
        return left
    }
}
