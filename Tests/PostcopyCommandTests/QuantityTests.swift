import ArgumentParser
import PostcopyRuntime
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
        "a rate is decimal where it is written as one, and else a size",
        arguments: [
            ("1000000", 1_000_000), ("1B", 1), ("1B/s", 1), ("1kB/s", 1_000), ("1KB/s", 1_000),
            ("200MB/s", 200_000_000), ("1GB/s", 1_000_000_000), ("3TB/s", 3_000_000_000_000),
            ("1KiB/s", 1 << 10), ("200MiB/s", 200 << 20), ("1GiB/s", 1 << 30),
            ("1TiB/s", 1 << 40), ("200M", 200 << 20), ("1G", 1 << 30), ("7k", 7 << 10),
            ("1mib", 1 << 20), ("18446744073709551615", .max),
        ] as [(String, UInt64)])
    func rates(_ text: String, _ bytesPerSecond: UInt64) throws {
        #expect(try ByteRate(parsing: text).bytesPerSecond == bytesPerSecond)
    }

    @Test(
        "the largest rate of each unit is taken and the next one overflows",
        arguments: [
            ("kB/s", 1_000), ("MB/s", 1_000_000), ("GB/s", 1_000_000_000),
            ("TB/s", 1_000_000_000_000), ("MiB/s", 1 << 20), ("G", 1 << 30),
        ] as [(String, UInt64)])
    func rateOverflow(_ unit: String, _ factor: UInt64) throws {
        let most = UInt64.max / factor
        #expect(try ByteRate(parsing: "\(most)\(unit)").bytesPerSecond == most * factor)
        let error = #expect(throws: QuantityError.self) {
            try ByteRate(parsing: "\(most + 1)\(unit)")
        }
        #expect(error?.reason == "it is too large")
    }

    @Test(
        "what is no rate is refused with what is, and the meaning of each",
        arguments: [
            "", "-1", "MB/s", "0", "0GB/s", "0K", "200MB", "200Mb/s", "200mb/s", "200Mbit/s", "1b",
            "200M/s", "1.5GB/s", "1 GB/s", "1GB/min", "/s", "200mib/s", "18446744073709551616",
        ])
    func noRate(_ text: String) {
        let error = #expect(throws: QuantityError.self) { try ByteRate(parsing: text) }
        let description = error?.description ?? ""
        #expect(description.hasPrefix("'\(text)' is no rate: "))
        #expect(description.contains("200MB/s or 1GB/s (powers of 1000)"))
        #expect(description.contains("powers of 1024"))
        let isZero = text.first == "0"
        #expect(description.contains("leave the option out") == isZero)
    }

    @Test("both limits reach the migration, and a refusal names its option")
    func limits() throws {
        var options = MigrationOptions()
        try LimitOptions.parse([]).apply(to: &options)
        #expect(options.maxBandwidth == nil && options.maxPostcopyBandwidth == nil)
        let arguments = ["--max-bandwidth", "1GB/s", "--max-postcopy-bandwidth", "200M"]
        try LimitOptions.parse(arguments).apply(to: &options)
        #expect(options.maxBandwidth == 1_000_000_000)
        #expect(options.maxPostcopyBandwidth == 200 << 20)
        for option in ["--max-bandwidth", "--max-postcopy-bandwidth"] {
            let error = #expect(throws: (any Error).self) { try LimitOptions.parse([option, "0"]) }
            let message = error.map { LimitOptions.message(for: $0) } ?? ""
            #expect(message.contains(option) && message.contains("leave the option out"))
        }
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
