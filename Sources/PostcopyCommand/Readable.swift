internal import Foundation

/// Numbers as people read them.
enum Readable {
    /// Three significant digits or so: 512 B, 1.5 KiB, 256 MiB.
    static func bytes(_ count: UInt64) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(count)
        var unit = 0
        while value >= 1024, unit + 1 < units.count {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(count) B" : "\(decimal(value)) \(units[unit])"
    }

    /// 850 ns, 12.3 us, 1.20 ms, 3.45 s.
    static func time(_ nanoseconds: UInt64) -> String {
        let value = Double(nanoseconds)
        switch nanoseconds {
        case ..<1_000: return "\(nanoseconds) ns"
        case ..<1_000_000: return "\(decimal(value / 1e3)) us"
        case ..<1_000_000_000: return "\(decimal(value / 1e6)) ms"
        default: return "\(decimal(value / 1e9)) s"
        }
    }

    static func rate(_ bytesPerSecond: Double) -> String {
        "\(bytes(UInt64(max(0, bytesPerSecond))))/s"
    }

    /// "1 page", "2 pages".
    static func count(_ number: UInt64, _ one: String, _ many: String) -> String {
        "\(number) \(number == 1 ? one : many)"
    }

    /// Whole from 100 on, one digit from 10 on, else two.
    private static func decimal(_ value: Double) -> String {
        let digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
        return String(format: "%.\(digits)f", value)
    }
}
