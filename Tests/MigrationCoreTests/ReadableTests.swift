import MigrationCore
import Testing

@Suite("Readable")
struct ReadableTests {
    @Test("numbers are printed with the digits that a person reads")
    func readable() {
        let sizes: [(UInt64, String)] = [
            (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1536, "1.50 KiB"),
            (1075, "1.05 KiB"), (256 << 20, "256 MiB"), (10 << 30, "10.0 GiB"),
            (UInt64.max, "16777216 TiB"),
        ]
        for (bytes, text) in sizes { #expect(Readable.bytes(bytes) == text) }
        let times: [(UInt64, String)] = [
            (0, "0 ns"), (999, "999 ns"), (1_000, "1.00 us"), (12_345, "12.3 us"),
            (1_234_567, "1.23 ms"), (9_994_000, "9.99 ms"), (9_996_000, "10.0 ms"),
            (99_960_000, "100 ms"), (999_000_000, "999 ms"), (61_000_000_000, "61.0 s"),
            (UInt64.max, "18446744074 s"),
        ]
        for (nanoseconds, text) in times { #expect(Readable.time(nanoseconds) == text) }
        let rates = [(-1, "0 B/s"), (0.5, "0 B/s"), (1e6, "977 KiB/s"), (1e300, "16777216 TiB/s")]
        for (rate, text) in rates { #expect(Readable.rate(rate) == text) }
    }
}
