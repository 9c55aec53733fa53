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
        let shift: UInt64? =
            switch quantity.unit.lowercased() {
            case "", "b": 0
            case "k", "kib": 10
            case "m", "mib": 20
            case "g", "gib": 30
            case "t", "tib": 40
            default: nil
            }
        guard let shift else {
            throw quantity.refusal("unit '\(quantity.unit)' is unknown")
        }
        bytes = try quantity.times(1 << shift)
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
        }
    }
}

/// A whole number and the unit behind it.
struct Quantity: Sendable {
    enum Kind: Sendable {
        case size
        case time
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

    func times(_ unit: UInt64) throws(QuantityError) -> UInt64 {
        let (product, overflow) = number.multipliedReportingOverflow(by: unit)
        guard !overflow else { throw refusal("it is too large") }
        return product
    }
}
