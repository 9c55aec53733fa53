internal import Postcopy

/// Rules that need no recorded waits.
extension AdviceRules {
    /// A round of precopy is worth it for more waits than these.
    private static let requestsMin: UInt64 = 1_000

    /// The vCPUs' blocktime in all.
    private var blockedNs: Double {
        (document.postcopyVcpuBlocktimeNs ?? []).reduce(0) { $0 + Double($1) }
    }

    /// Without recorded causes: whoever was blocked for about as long as the link was down was so for
    /// that reason.
    var unrecordedLinkDown: Advice? {
        let down = downNs.reduce(0) { $0 + Double($1) }
        guard document.flight == nil, down >= Self.waitedNsMin,
            let longest = document.postcopyVcpuBlocktimeNs?.max(), down * 2 >= Double(longest),
            Double(longest) >= down / 2
        else { return nil }
        return .keepTheLinkUp(
            basis: "the link was down for \(Readable.time(down)) in all; the vCPU that was blocked "
                + "longest was so for \(Readable.time(longest))")
    }

    var precopyFits: Advice? {
        guard let switchover = document.switchover, switchover.ending == "postcopy",
            switchover.bandwidthBytesPerSecond > 0, switchover.owedBytes > 0,
            blockedNs >= Self.waitedNsMin
        else { return nil }
        let restNs =
            Double(switchover.owedBytes) / Double(switchover.bandwidthBytesPerSecond) * 1e9
            + Double(switchover.finalSyncNs)
        // Whoever stops the guest stops every vCPU.
        let vcpus = Double(document.postcopyVcpuBlocktimeNs?.count ?? 1)
        guard restNs * vcpus <= blockedNs else { return nil }
        return Advice(
            title: "Let the precopy finish",
            text: "What was owed would have been sent in \(Readable.time(restNs)) with the guest "
                + "stopped, and no vCPU would have waited for a page afterwards: allow that much with "
                + "--downtime-limit.",
            basis: "\(Readable.bytes(switchover.owedBytes)) were owed at "
                + "\(Readable.rate(Double(switchover.bandwidthBytesPerSecond))); the vCPUs were then blocked "
                + "for \(Readable.time(blockedNs)) in all")
    }

    var noPrecopy: Advice? {
        guard document.rounds == nil, document.switchover == nil, document.source != nil,
            let requests = document.ram.postcopyRequests, requests >= Self.requestsMin,
            blockedNs >= Self.waitedNsMin
        else { return nil }
        return Advice(
            title: "Send memory before the guest moves",
            text:
                "All memory followed the guest. A round of precopy (leave --no-precopy out) sends "
                + "what does not change while the guest still runs at the source.",
            basis: "no round of precopy; \(requests) requests, and vCPUs blocked for "
                + "\(Readable.time(blockedNs)) in all")
    }

    var inOrder: Advice? {
        guard let workload = document.workload, workload.pattern == "sequential",
            let requests = document.ram.postcopyRequests, requests >= Self.requestsMin,
            blockedNs >= Self.waitedNsMin
        else { return nil }
        return Advice(
            title: "Fetch the pages that come next as well",
            text:
                "The guest walks through memory in order, so each fault tells which pages will be "
                + "missing next: prefetching behind a request would have saved most of them.",
            basis: "pattern sequential; \(requests) requests")
    }

    var busyHost: Advice? {
        guard let load = document.machine.loadAverage.first, document.machine.cpus > 0,
            load >= Double(document.machine.cpus) * 1.5
        else { return nil }
        return Advice(
            title: "Take a host that is less busy",
            text:
                "More threads wanted to run than there were CPUs before the migration began; every "
                + "figure on this page holds some waiting for a CPU.",
            basis: "load \(Coordinate.text(load)) on "
                + Readable.count(UInt64(document.machine.cpus), "CPU", "CPUs"))
    }

    var notLocked: Advice? {
        document.destination?.lockProblem.map { problem in
            Advice(
                title: "Allow the destination to lock memory",
                text:
                    "The guest's memory was to be locked and is not, so that it may be swapped out.",
                basis: problem)
        }
    }
}

extension Advice {
    static func keepTheLinkUp(basis: String) -> Advice {
        Advice(
            title: "Keep the link up, or get it back sooner",
            text: "While the link was down no page could come. A link over two ways, and a shorter "
                + "--link-limit, which notices a dead link sooner, shorten that; so does leaving "
                + "--recover as it is, where a source that waits for somebody was asked for.",
            basis: basis)
    }
}
