import Testing

@testable import PostcopyCommand

@Suite struct QuantityTests {
    @Test(
        "a unit multiplies by its power of 1024, in every spelling",
        arguments: [("K", 10), ("M", 20), ("G", 30), ("T", 40)])
    func units(_ letter: String, _ shift: UInt64) throws {
        for spelling in [letter, letter.lowercased(), "\(letter)iB", "\(letter)ib".lowercased()] {
            for number: UInt64 in [0, 1, 7, 4096] {
                #expect(try ByteCount(parsing: "\(number)\(spelling)").bytes == number << shift)
            }
        }
    }

    @Test(
        "the largest number of each unit is taken and the next one overflows",
        arguments: [("", 0), ("K", 10), ("M", 20), ("G", 30), ("T", 40)])
    func overflow(_ unit: String, _ shift: UInt64) throws {
        let most = UInt64.max >> shift
        #expect(try ByteCount(parsing: "\(most)\(unit)").bytes == most << shift)
        let more = shift == 0 ? "18446744073709551616" : "\(most + 1)"
        let error = #expect(throws: QuantityError.self) { try ByteCount(parsing: more + unit) }
        #expect(error?.reason == "it is too large")
    }

    @Test(
        "what is no size is refused by its own text",
        arguments: ["", "M", "-1", "-1M", "1.5G", "1 M", "1MB", "0x10", "１", "1K1", "+1"])
    func noSize(_ text: String) {
        let error = #expect(throws: QuantityError.self) { try ByteCount(parsing: text) }
        #expect(error?.description.hasPrefix("'\(text)' is no size: ") == true)
        #expect(error?.description.contains("256M") == true)
    }

    @Test(
        "times are taken with their unit",
        arguments: [
            ("0", 0), ("1us", 1_000), ("500ms", 500_000_000), ("2s", 2_000_000_000),
            ("1m", 60_000_000_000), ("1440m", 86_400_000_000_000),
        ])
    func times(_ text: String, _ nanoseconds: UInt64) throws {
        #expect(try TimeSpan(parsing: text).nanoseconds == nanoseconds)
    }

    @Test(
        "what is no time is refused",
        arguments: ["5", "-1s", "s", "1h", "1441m", "18446744073709551615s", "1.5s", "1S"])
    func noTime(_ text: String) {
        let error = #expect(throws: QuantityError.self) { try TimeSpan(parsing: text) }
        #expect(error?.description.contains("500ms") == true)
    }

    @Test(
        "a size is printed as it can be typed",
        arguments: ["0", "1", "4095", "4K", "6K", "2M", "3M", "1G", "16T", "4097", "1025K"])
    func sizeText(_ text: String) throws {
        #expect(try ByteCount(parsing: text).text == text)
    }
}
