internal import Postcopy

/// Which sources' logs belong to which destinations'.
struct FaultLogPairs {
    typealias Named = (path: String, log: FaultLog)

    /// The logs with a destination, in their order, with what their sources say.
    /// - Throws: `Refusal` for a source's log without a destination's.
    static func joined(_ logs: [Named]) throws(Refusal) -> [FaultLog] {
        var runs = logs.map(\.log).filter { $0.destination != nil }
        for source in logs where source.log.destination == nil {
            let fitting = runs.indices.filter {
                runs[$0].source == nil && isPair(source.log, runs[$0])
            }
            // Of the same guest moved twice, the one whose clock fits is the one that it was.
            let errors = fitting.map {
                ClockOffset(runs[$0].joined(with: source.log))?.errorNanoseconds ?? .max
            }
            guard let best = zip(fitting, errors).min(by: { $0.1 < $1.1 })?.0 else {
                throw .environment(
                    "\(source.path) holds the source's side alone, where nobody waits, and none of "
                        + "the other files is its destination's: give it with the fault log of the "
                        + "same migration's destination")
            }
            runs[best] = runs[best].joined(with: source.log)
        }
        return runs
    }

    /// Whether both tell of one migration, as far as can be seen.
    private static func isPair(_ sourceLog: FaultLog, _ log: FaultLog) -> Bool {
        guard let source = sourceLog.source, let destination = log.destination else { return false }
        func blocks(_ log: FaultLog) -> [String: UInt64] {
            log.blocks.reduce(into: [:]) { $0[$1.name] = $1.lengthBytes }
        }
        guard blocks(sourceLog) == blocks(log) else { return false }
        let isOneHost = isOneHost(source.side, destination.side)
        if isOneHost, source.guestStoppedAt != 0, destination.guestRunningAt != 0 {
            let end = source.side.endedAt == 0 ? .max : source.side.endedAt
            guard source.guestStoppedAt <= destination.guestRunningAt,
                destination.guestRunningAt <= end
            else { return false }
        }
        let waited = Self.waited(destination)
        let places = sourceLog.blocks.map { block in log.blocks.firstIndex { $0.name == block.name }
        }
        let found = source.services.count { service in
            let block = Int(service.block)
            guard places.indices.contains(block), let place = places[block],
                let times = waited[Page(block: UInt16(clamping: place), page: service.page)]
            else { return false }
            // What came in the background may be there before its request arrives.
            return !isOneHost || service.flags.contains(.alreadySent)
                || times.contains { $0.contains(service.received) }
        }
        // Most of what both can know: either's ring may have lost the older part.
        return found >= (min(source.services.count, destination.waits.count) + 1) / 2
    }

    private static func isOneHost(_ one: FaultLog.Side, _ other: FaultLog.Side) -> Bool {
        !one.bootID.isEmpty && one.bootID == other.bootID
    }

    private struct Page: Hashable {
        let block: UInt16
        let page: UInt64
    }

    /// When each page was waited for.
    private static func waited(
        _ destination: FaultLog.Destination
    ) -> [Page: [ClosedRange<UInt64>]] {
        destination.waits.reduce(into: [:]) { pages, wait in
            let began = min(wait.began, wait.ended)
            pages[Page(block: wait.block, page: wait.page), default: []].append(began...wait.ended)
        }
    }
}
