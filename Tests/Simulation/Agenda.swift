/// What happens when, as a binary heap: the earliest first, then in the order of entry.
struct Agenda {
    struct Entry {
        let at: Int
        let order: Int
        let worker: Int

        func isBefore(_ other: Entry) -> Bool {
            at < other.at || (at == other.at && order < other.order)
        }
    }

    private var entries: [Entry] = []
    private var order = 0

    mutating func add(_ worker: Int, at instant: Int) {
        order += 1
        entries.append(Entry(at: instant, order: order, worker: worker))
        var index = entries.count - 1
        while index > 0 {
            let parent = (index - 1) / 2
            guard entries[index].isBefore(entries[parent]) else { return }
            entries.swapAt(index, parent)
            index = parent
        }
    }

    mutating func next() -> Entry? {
        guard let first = entries.first, let last = entries.popLast() else { return nil }
        guard !entries.isEmpty else { return first }
        entries[0] = last
        var index = 0
        while true {
            var smallest = index
            for child in [2 * index + 1, 2 * index + 2] where child < entries.count {
                if entries[child].isBefore(entries[smallest]) { smallest = child }
            }
            guard smallest != index else { return first }
            entries.swapAt(index, smallest)
            index = smallest
        }
    }
}
