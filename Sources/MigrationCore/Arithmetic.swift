let nanosecondsPerSecond: UInt64 = 1_000_000_000

extension UInt64 {
    /// `self * factor / divisor`, rounded down; the largest number when that has no room, and zero
    /// over zero time.
    func times(_ factor: UInt64, over divisor: UInt64) -> UInt64 {
        guard divisor > 0 else { return 0 }
        let product = multipliedFullWidth(by: factor)
        guard product.high < divisor else { return .max }
        return divisor.dividingFullWidth(product).quotient
    }

    /// The sum, or the largest number when that has no room.
    func adding(_ other: UInt64) -> UInt64 {
        let (sum, overflows) = addingReportingOverflow(other)
        return overflows ? .max : sum
    }

    func mean(with other: UInt64) -> UInt64 { (self & other) + ((self ^ other) >> 1) }

    /// Seconds as nanoseconds: the nearest number that there is.
    init(nanosecondsOf seconds: Double) {
        let nanoseconds = (seconds * Double(nanosecondsPerSecond)).rounded()
        // Also false for what is not a number.
        guard nanoseconds > 0 else {
            self = 0
            return
        }
        self = UInt64(exactly: nanoseconds) ?? .max
    }

    /// Nanoseconds as seconds.
    var seconds: Double { Double(self) / Double(nanosecondsPerSecond) }
}
