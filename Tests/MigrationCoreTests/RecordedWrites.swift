import Foundation

/// Memory that real programs wrote, recorded on Linux 6.18: every 250 ms the pages of the process that
/// had been written since were counted and protected again (`PAGEMAP_SCAN`, asynchronous userfaultfd
/// write protection), each page once.
struct RecordedWrites: Sendable, CustomStringConvertible {
    static let intervalSeconds = 0.25

    let program: String
    /// The most memory it held.
    let residentMiB: Double
    let writtenMiB: [Double]

    var description: String { program }

    static let all = [
        RecordedWrites(
            program: "g++ compiling templates", residentMiB: 444,
            writtenMiB: [
                66, 63, 61, 55, 50, 81, 149, 114, 61, 55, 53, 49, 49, 58, 90, 86, 62, 38, 33,
                31, 30, 31, 35, 28, 23, 26, 32, 31, 36, 51, 39, 39, 39, 35, 34, 33, 34, 34, 34,
                33, 35, 35, 34, 34, 35, 33, 34, 33,
            ]),
        RecordedWrites(
            program: "xz -9 compressing an archive", residentMiB: 432,
            writtenMiB: [
                78, 79, 86, 91, 99, 106, 113, 119, 116, 123, 119, 122, 93, 128, 91, 108, 119,
                136, 132, 142, 139, 144, 142, 153, 159, 151, 145, 131, 154, 144, 168, 162, 119,
                176, 173, 181, 180, 189, 200, 161, 132, 190, 137, 194, 194, 153, 137,
            ]),
        RecordedWrites(
            program: "sqlite3 inserting, updating, deleting and vacuuming in memory",
            residentMiB: 313,
            writtenMiB: [
                74, 39, 141, 110, 98, 199, 302, 136, 136, 136, 136, 136, 136, 136, 188, 178,
                305, 281, 255,
            ]),
        RecordedWrites(
            program: "a Python service with a cache, requests in groups, garbage collection",
            residentMiB: 379,
            writtenMiB: [
                134, 131, 89, 0, 0, 0, 0, 0, 159, 142, 14, 200, 223, 227, 106, 18, 0, 15, 251,
                232, 261, 101, 258, 259, 279, 32, 0, 188, 257, 0, 0, 216, 296, 245, 185, 0, 0, 0,
                0, 0, 221, 228, 26, 23, 0, 0, 0, 0, 0, 123, 304, 308, 241, 28, 315, 313, 311, 102,
                0, 0, 0, 0, 0, 27, 27, 307, 345,
            ]),
    ]

    /// The program in a guest of 1 GiB that is otherwise at rest, over and over.
    func trace(bandwidthBytesPerSecond bandwidth: Double) -> DirtyTrace {
        let memoryBytes = 0x1p30
        let resident = residentMiB * 0x1p20
        let total = memoryBytes / bandwidth
        let cold = (memoryBytes - resident) / bandwidth
        // Eight pieces each, in turns.
        let runs = (0..<8).flatMap { _ in
            [
                DirtyTrace.Run(zone: 1, seconds: resident / bandwidth / 8),
                DirtyTrace.Run(zone: DirtyTrace.coldZone, seconds: cold / 8),
            ]
        }
        var stretches: [DirtyTrace.Stretch] = []
        while Double(stretches.count) * RecordedWrites.intervalSeconds < 13 * total {
            for written in writtenMiB {
                // So many writes, hitting pages at random, leave this share of the pages dirty.
                let share = min(written / residentMiB, 0.95)
                let rate = -log(1 - share) * resident / RecordedWrites.intervalSeconds / bandwidth
                stretches.append(
                    DirtyTrace.Stretch(
                        until: Double(stretches.count + 1) * RecordedWrites.intervalSeconds,
                        rates: [0, rate, 0]))
            }
        }
        return DirtyTrace(
            kind: .recorded, name: program, bandwidthBytesPerSecond: bandwidth,
            syncSeconds: DirtyTrace.syncSeconds(memoryBytes: memoryBytes), runs: runs,
            stretches: stretches)
    }
}
