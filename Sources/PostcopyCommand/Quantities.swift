/// A number of bytes as a user writes it: 4096, 64K, 256M, 4G, also 256MiB.
struct ByteCount: Equatable, Sendable {
    let bytes: UInt64

    init(_ bytes: UInt64) { self.bytes = bytes }

    /// As a user would write it: by the largest unit of which it is a whole number.
    var text: String {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")]
        for (shift, letter) in units where bytes > 0 && bytes.trailingZeroBitCount >= shift {
            return "\(bytes >> shift)\(letter)"
        }
        return "\(bytes)"
    }

    init(parsing text: String) throws(QuantityError) {
        let quantity = try Quantity(parsing: text, kind: .size)
        guard let unit = Self.unit(quantity.unit) else { throw quantity.unknownUnit }
        bytes = try quantity.times(unit)
    }

    /// The bytes of a unit, all powers of 1024; `nil` for one that is unknown.
    fileprivate static func unit(_ name: String) -> UInt64? {
        switch name.lowercased() {
        case "", "b": 1
        case "k", "kib": 1 << 10
        case "m", "mib": 1 << 20
        case "g", "gib": 1 << 30
        case "t", "tib": 1 << 40
        default: nil
        }
    }
}

/// A number of bytes per second as a user writes it: 1000000, 200MB/s, 1GB/s, also 200MiB/s, and as a
/// size: 200M, 1G.
struct ByteRate: Equatable, Sendable {
    let bytesPerSecond: UInt64

    init(parsing text: String) throws(QuantityError) {
        let quantity = try Quantity(parsing: text, kind: .rate)
        guard let unit = Self.unit(quantity.unit) else { throw quantity.unknownUnit }
        bytesPerSecond = try quantity.times(unit)
        guard bytesPerSecond > 0 else {
            throw quantity.refusal(
                "at 0 nothing arrives, so leave the option out for no limit, or write none to lift it"
            )
        }
    }

    /// With "/s" the letters count as they are written: "b" is a bit.
    private static func unit(_ name: String) -> UInt64? {
        switch name {
        case "B/s": 1
        case "kB/s", "KB/s": 1_000
        case "MB/s": 1_000_000
        case "GB/s": 1_000_000_000
        case "TB/s": 1_000_000_000_000
        case "KiB/s", "MiB/s", "GiB/s", "TiB/s": ByteCount.unit(String(name.dropLast(2)))
        case "b": nil
        default: ByteCount.unit(name)
        }
    }
}

/// A length of time as a user writes it: 500ms, 2s, also 100us or 1m.
struct TimeSpan: Equatable, Sendable {
    let nanoseconds: UInt64

    init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    init(parsing text: String) throws(QuantityError) {
        let quantity = try Quantity(parsing: text, kind: .time)
        let unit: UInt64? =
            switch quantity.unit {
            case "us": 1_000
            case "ms": 1_000_000
            case "s": 1_000_000_000
            case "m", "min": 60_000_000_000
            case "": quantity.number == 0 ? 1 : nil
            default: nil
            }
        guard let unit else {
            let found = quantity.unit
            throw quantity.refusal(found.isEmpty ? "it has no unit" : "unit '\(found)' is unknown")
        }
        nanoseconds = try quantity.times(unit)
        guard nanoseconds <= Self.nanosecondsMax else { throw quantity.refusal("it is over a day") }
    }

    /// A day: longer than anyone waits, and far from where sums of instants overflow.
    static let nanosecondsMax: UInt64 = 86_400_000_000_000
}

/// Why a text is no quantity.
struct QuantityError: Error, Equatable, CustomStringConvertible {
    let text: String
    let kind: Quantity.Kind
    let reason: String

    var description: String {
        switch kind {
        case .size: "'\(text)' is no size: \(reason); write 4096, 64K, 256M or 4G"
        case .time: "'\(text)' is no length of time: \(reason); write 500ms or 2s"
        case .rate:
            "'\(text)' is no rate: \(reason); write 200MB/s or 1GB/s (powers of 1000), 200MiB/s, "
                + "200M or 1G (powers of 1024), or a number of bytes per second"
        }
    }
}

/// A whole number and the unit behind it.
struct Quantity: Sendable {
    enum Kind: Sendable {
        case size
        case time
        case rate
    }

    let text: String
    let kind: Kind
    let number: UInt64
    let unit: String

    init(parsing text: String, kind: Kind) throws(QuantityError) {
        func refusal(_ reason: String) -> QuantityError {
            QuantityError(text: text, kind: kind, reason: reason)
        }
        guard !text.hasPrefix("-") else { throw refusal("it is negative") }
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty else { throw refusal("it begins with no number") }
        guard let number = UInt64(digits) else { throw refusal("it is too large") }
        self.text = text
        self.kind = kind
        self.number = number
        unit = String(text.dropFirst(digits.count))
    }

    func refusal(_ reason: String) -> QuantityError {
        QuantityError(text: text, kind: kind, reason: reason)
    }

    var unknownUnit: QuantityError { refusal("unit '\(unit)' is unknown") }

    func times(_ unit: UInt64) throws(QuantityError) -> UInt64 {
        let (product, overflow) = number.multipliedReportingOverflow(by: unit)
        guard !overflow else { throw refusal("it is too large") }
        return product
    }
}
