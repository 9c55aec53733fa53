/// Numbers as people read them.
package enum Readable {
    /// Three significant digits or so: 512 B, 1.50 KiB, 256 MiB.
    package static func bytes(_ count: UInt64) -> String {
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
    package static func time(_ nanoseconds: UInt64) -> String {
        let value = Double(nanoseconds)
        switch nanoseconds {
        case ..<1_000: return "\(nanoseconds) ns"
        case ..<1_000_000: return "\(decimal(value / 1e3)) us"
        case ..<1_000_000_000: return "\(decimal(value / 1e6)) ms"
        default: return "\(decimal(value / 1e9)) s"
        }
    }

    package static func rate(_ bytesPerSecond: Double) -> String {
        "\(bytes(UInt64(exactly: max(0, bytesPerSecond).rounded(.down)) ?? .max))/s"
    }

    /// "1 page", "2 pages".
    package static func count(_ number: UInt64, _ one: String, _ many: String) -> String {
        "\(number) \(number == 1 ? one : many)"
    }

    /// Whole from 100 on, one digit from 10 on, else two.
    private static func decimal(_ value: Double) -> String {
        if value >= 99.95 { return "\(UInt64(value.rounded()))" }
        let scale: UInt64 = value >= 9.995 ? 10 : 100
        let scaled = UInt64((value * Double(scale)).rounded())
        let digits = "\(scaled % scale)"
        let zeros = String(repeating: "0", count: scale == 100 && digits.count == 1 ? 1 : 0)
        return "\(scaled / scale).\(zeros)\(digits)"
    }
}
