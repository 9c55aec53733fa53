import FlightRecorder
import MigrationCore
import Testing

@Suite("the ring of a thread's records")
struct FlightRingTests {
    @Test("keeps the latest records in order, and counts what it lost", arguments: 0...9)
    func keepsLatest(count: Int) {
        var ring = FlightRing<UInt64>(capacity: 4)
        for value in 0..<UInt64(count) { ring.append(value) }
        let kept = ring.drain()
        #expect(kept.records == Array((0..<UInt64(count)).suffix(4)))
        #expect(kept.lostCount == UInt64(max(0, count - 4)))
    }

    @Test("records have the sizes that their documentation says")
    func sizes() {
        #expect(MemoryLayout<WaitRecord>.size == 64)
        #expect(MemoryLayout<ServiceRecord>.size == 40)
        #expect(MemoryLayout<PlacementRecord>.size == 24)
    }

    @Test(
        "buckets are powers of two of microseconds",
        arguments: [
            (UInt64(0), 0), (1_999, 0), (2_000, 1), (3_999, 1), (4_000, 2), (1_023_999, 9),
            (1_024_000, 10), (.max, 23),
        ])
    func buckets(nanoseconds: UInt64, index: Int) {
        #expect(LatencyBuckets.index(ofNanoseconds: nanoseconds) == index)
    }
}
