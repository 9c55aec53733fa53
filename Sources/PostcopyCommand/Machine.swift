internal import Foundation

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

    private static func text(_ path: String) -> String {
        (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    }
}
