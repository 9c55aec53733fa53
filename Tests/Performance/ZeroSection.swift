import LinuxKernel
import PageModel

/// Zero pages found, next to reading the same memory in order by the plain loop that is the fastest
/// here.
struct ZeroSection {
    let runs: Int

    private static let lengthBytes: UInt64 = 1 << 30

    /// Prints what each plain loop reads.
    func rows() throws -> [Row] {
        let block = try BlockGeometry(
            name: "bench.ram", lengthBytes: Self.lengthBytes, hostPage: HostMemory.pageSize)
        let memory = FilledMemory(try GuestRAM(block, backing: .anonymous))
        var plain: [ReadLoop: [Double]] = [:]
        var ours: [Double] = []
        for _ in 0..<runs {
            for loop in ReadLoop.allCases {
                plain[loop, default: []].append(speed { memory.read(by: loop) })
            }
            ours.append(
                speed {
                    for page in 0..<block.targetPageCount {
                        let offset = RAMOffset(rawValue: UInt64(page) << 12)
                        precondition(memory.ram.isZeroPage(at: offset), "a page of zeros")
                    }
                })
        }
        for loop in ReadLoop.allCases {
            print("\(loop.rawValue): \(one(median(plain[loop] ?? []))) GB/s")
        }
        let speeds = plain.map { (loop: $0.key, speeds: $0.value) }
        guard let fastest = speeds.max(by: { median($0.speeds) < median($1.speeds) }) else {
            return []
        }
        let pairs = Array(zip(fastest.speeds, ours))
        return [Row("zero-page scan beside \(fastest.loop.rawValue)", unit: "GB/s", pairs: pairs)]
    }

    private func speed(_ body: () -> Void) -> Double {
        Double(Self.lengthBytes) / 1e6 / milliseconds(body)
    }
}
