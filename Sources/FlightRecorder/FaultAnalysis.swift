/// What the records of a migration's faults come to.
public struct FaultAnalysis: Sendable {
    /// How many of the longest waits are kept with their parts.
    public static let worstMax = 20

    /// A wait and what it consisted of.
    public struct ExplainedWait: Sendable {
        /// As it was recorded.
        public let wait: WaitRecord
        /// By cause; they sum up to its length.
        public let parts: CauseTotals

        /// The causes that took a tenth or more, the largest first, in words.
        public var reason: String {
            let whole = max(1, wait.lengthNanoseconds)
            let shares = parts.sorted.map { ($0.cause, Double($0.nanoseconds) / Double(whole)) }
            return shares.filter { $0.1 >= 0.1 }
                .map { "\(Int(($0.1 * 100).rounded())) % \($0.0.text)" }
                .joined(separator: ", ")
        }
    }

    /// What one party waited.
    public struct Party: Sendable {
        /// The vCPU, or `nil` for threads that are none.
        public let vcpu: Int?
        /// Its name, or that of the thread.
        public let name: String
        /// Its waits.
        public let waits: WaitLengths
    }

    /// The time of all waits by cause.
    public private(set) var causes = CauseTotals()
    /// Waits by the cause that took the largest part of them.
    public private(set) var waitsByCause: [DelayCause: UInt64] = [:]
    /// The longest waits, the longest first.
    public private(set) var worst: [ExplainedWait] = []
    /// All vCPUs in their order, also those that never waited.
    public let vcpus: [Party]
    /// Other threads by name.
    public let others: [Party]
    /// All waits.
    public let waits: WaitLengths
    /// How beginnings were timed.
    public let timing: FaultTiming
    /// How the hosts' clocks compare; `nil` where one side's word is not known, or they share no wait.
    public let clock: ClockOffset?
    /// Where and when; `nil` where nothing was recorded.
    public let map: FaultMap?

    /// - Complexity: O(n log n) in the records.
    public init(_ log: FaultLog) {
        let destination = log.destination ?? FaultLog.Destination()
        clock = ClockOffset(log)
        timing = FaultTiming(destination.waits)
        map = FaultMap(log)
        waits = WaitLengths(destination.waits.map(\.lengthNanoseconds))
        (vcpus, others) = Self.parties(destination)
        attribute(destination.waits, by: WaitAttribution(log, clock: clock))
    }

    private mutating func attribute(_ waits: [WaitRecord], by attribution: WaitAttribution) {
        var own = CauseTotals()
        var counts = [UInt64](repeating: 0, count: DelayCause.allCases.count)
        for wait in waits {
            own.clear()
            attribution.add(wait, to: &own)
            causes.add(own)
            if let largest = own.largest { counts[largest.ordinal] += 1 }
            keep(wait, own)
        }
        for cause in DelayCause.allCases where counts[cause.ordinal] > 0 {
            waitsByCause[cause] = counts[cause.ordinal]
        }
    }

    /// Keeps a wait that is among the longest so far.
    private mutating func keep(_ wait: WaitRecord, _ parts: CauseTotals) {
        let length = wait.lengthNanoseconds
        guard length > 0 else { return }
        if worst.count == Self.worstMax {
            guard let shortest = worst.last, shortest.wait.lengthNanoseconds < length else {
                return
            }
            worst.removeLast()
        }
        let place = worst.firstIndex { $0.wait.lengthNanoseconds < length } ?? worst.count
        worst.insert(ExplainedWait(wait: wait, parts: parts), at: place)
    }

    private static func parties(
        _ destination: FaultLog.Destination
    ) -> (vcpus: [Party], others: [Party]) {
        let numbers = destination.vcpuNumbers
        var vcpus = [[UInt64]](repeating: [], count: destination.vcpuThreads.count)
        var others: [String: [UInt64]] = [:]
        for wait in destination.waits {
            if let vcpu = numbers[wait.thread] {
                vcpus[vcpu].append(wait.lengthNanoseconds)
            } else {
                others[destination.name(of: wait.thread), default: []]
                    .append(wait.lengthNanoseconds)
            }
        }
        return (
            vcpus.enumerated().map { index, lengths in
                Party(vcpu: index, name: "vcpu\(index)", waits: WaitLengths(lengths))
            },
            others.sorted { $0.key < $1.key }.map { name, lengths in
                Party(vcpu: nil, name: name, waits: WaitLengths(lengths))
            }
        )
    }
}

extension FaultLog.Destination {
    /// The vCPU of each thread that runs one; of a thread that is named twice the first.
    public var vcpuNumbers: [Int32: Int] {
        Dictionary(zip(vcpuThreads, vcpuThreads.indices)) { first, _ in first }
    }

    /// A thread's name, or its number where no name is known.
    public func name(of thread: Int32) -> String { knownName(of: thread) ?? "thread \(thread)" }

    /// `nil` as well where the name that was read is empty.
    func knownName(of thread: Int32) -> String? {
        threadNames[thread].flatMap { $0.isEmpty ? nil : $0 }
    }
}

/// How the beginnings of waits were timed.
public struct FaultTiming: Hashable, Sendable {
    /// Waits whose beginning the kernel timed.
    public private(set) var kernelTimed: UInt64 = 0
    /// Those timed when they were read.
    public private(set) var handlerTimed: UInt64 = 0
    /// From the fault to its being read, where the kernel timed it.
    public private(set) var readDelayNanosecondsMean: UInt64 = 0
    /// The longest of those.
    public private(set) var readDelayNanosecondsMax: UInt64 = 0

    init(_ waits: [WaitRecord]) {
        var sum: UInt64 = 0
        for wait in waits {
            guard wait.flags.contains(.kernelTimed) else {
                handlerTimed += 1
                continue
            }
            kernelTimed += 1
            let delay = wait.read - min(wait.read, wait.began)
            sum = sum.addingCapped(delay)
            readDelayNanosecondsMax = max(readDelayNanosecondsMax, delay)
        }
        readDelayNanosecondsMean = sum / max(1, kernelTimed)
    }

    /// How far the total of all waits may lie below the truth, taking it that no read was later than
    /// the latest that was timed; `nil` where none was.
    public var boundNanoseconds: UInt64? {
        guard handlerTimed > 0 else { return 0 }
        guard kernelTimed > 0 else { return nil }
        let (product, isOver) = readDelayNanosecondsMax.multipliedReportingOverflow(
            by: handlerTimed)
        return isOver ? .max : product
    }
}
