internal import Foundation
internal import Postcopy

/// What a measurement needs to be told about the host.
enum Machine {
    static func figures() -> MachineFigures {
        MachineFigures(
            cpus: cpuCount,
            kernel: text("/proc/sys/kernel/osrelease").trimmingCharacters(in: .newlines),
            loadAverage: text("/proc/loadavg").split(separator: " ").prefix(3)
                .compactMap { Double($0) })
    }

    /// As many threads as can work at once.
    static var cpuCount: Int { ProcessInfo.processInfo.activeProcessorCount }

    /// The most memory that this process ever had in RAM.
    static var peakResidentBytes: UInt64? {
        for line in text("/proc/self/status").split(separator: "\n")
        where line.hasPrefix("VmHWM:") {
            return UInt64(line.filter(\.isNumber)).map { $0 << 10 }
        }
        return nil
    }

    /// What one side has open at most, both channels and the pipes of a child included, is half of
    /// this; libraries that cannot open something end the process without a word.
    static let descriptorsMin = 64

    /// - Throws: `Refusal` when this process may not open as many files as it may need.
    static func checkDescriptors(limits: String = text("/proc/self/limits")) throws {
        let name = "Max open files"
        let line = limits.split(separator: "\n").first { $0.hasPrefix(name) }
        // The soft limit comes first; "unlimited" is no number.
        guard let word = line?.dropFirst(name.count).split(separator: " ").first,
            let limit = Int(word), limit < descriptorsMin
        else { return }
        throw Refusal.environment(descriptorRemedy(limit: limit))
    }

    /// What a limit of open files below the least means, and what helps.
    static func descriptorRemedy(limit: Int) -> String {
        "only \(limit) files may be open, and a migration needs up to \(descriptorsMin): raise "
            + "the limit with 'ulimit -n \(descriptorsMin)' or more"
    }

    /// The huge pages that can still be had, those beyond the pool included; `nil` when the host has none of that size.
    static func freePages(_ page: PageSize) -> UInt64? {
        func number(_ name: String) -> UInt64? {
            UInt64(
                text("\(HugePages.folder(of: page.bytes))/\(name)")
                    .trimmingCharacters(in: .newlines))
        }
        guard let free = number("free_hugepages") else { return nil }
        let (most, taken) = (number("nr_overcommit_hugepages"), number("surplus_hugepages"))
        let beyond = (most ?? 0) - min(most ?? 0, taken ?? 0)
        return free - min(free, number("resv_hugepages") ?? 0) + beyond
    }

    private static func text(_ path: String) -> String {
        (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    }
}
