import Testing

@testable import TestWorkload

@Suite("Specification")
struct SpecificationTests {
    struct Refusal: Sendable, CustomTestStringConvertible {
        let name: String
        let value: String
        var vcpus = 2
        var fraction = 0.5
        var hot: UInt64 = 8192
        var rate: UInt64 = 0
        var memory: UInt64 = 16384
        var testDescription: String { "\(name) \(value)" }
    }

    static let refusals: [Refusal] = [
        Refusal(name: "vcpus", value: "0", vcpus: 0),
        Refusal(name: "vcpus", value: "-1", vcpus: -1),
        Refusal(name: "vcpus", value: "65", vcpus: 65),
        Refusal(name: "write-fraction", value: "-0.1", fraction: -0.1),
        Refusal(name: "write-fraction", value: "-0.0", fraction: -0.0),
        Refusal(name: "write-fraction", value: "1.1", fraction: 1.1),
        Refusal(name: "write-fraction", value: "nan", fraction: .nan),
        Refusal(name: "write-fraction", value: "inf", fraction: .infinity),
        Refusal(name: "hot-set", value: "0", hot: 0),
        Refusal(name: "hot-set", value: "4096", hot: 4096),
        Refusal(name: "hot-set", value: "8193", hot: 8193),
        Refusal(name: "hot-set", value: "20480", hot: 20480),
        Refusal(name: "rate", value: "1000000001", rate: 1_000_000_001),
        Refusal(name: "memory", value: "0", memory: 0),
        Refusal(name: "memory", value: "16385", memory: 16385),
        Refusal(name: "memory", value: "\(UInt64(1) << 44 + 4096)", memory: UInt64(1) << 44 + 4096),
    ]

    @Test("a refusal names option, value and remedy", arguments: refusals)
    func refuses(_ refusal: Refusal) throws {
        let error = try #require(throws: WorkloadError.self) {
            _ = try WorkloadSpecification(
                seed: 1, vcpuCount: refusal.vcpus, pattern: .uniform,
                writeFraction: refusal.fraction, hotSetBytes: refusal.hot,
                accessesPerSecond: refusal.rate, fill: .zero, memoryBytes: refusal.memory)
        }
        guard case .option(let name, let value, let remedy) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(name == refusal.name)
        #expect(value == refusal.value)
        #expect(remedy.contains("give"))
        #expect(error.description.contains(name) && error.description.contains(remedy))
    }

    @Test(
        "the shares are the hot set, in order, without gap or overlap", arguments: [1, 2, 3, 7, 64])
    func shares(vcpus: Int) throws {
        for hotPages in vcpus...vcpus + 70 {
            let specification = try specification(
                vcpus: vcpus, hotPages: hotPages, pages: hotPages + 5)
            var next = 0
            for vcpu in 0..<vcpus {
                let pages = specification.pages(of: vcpu)
                #expect(pages.lowerBound == next && !pages.isEmpty)
                next = pages.upperBound
            }
            #expect(next == hotPages)
        }
    }

    @Test("memory of another length is refused")
    func otherLength() throws {
        let ram = try freshRAM(pages: 31)
        let expected = WorkloadError.memoryLength(
            blockBytes: 31 * 4096, specificationBytes: 32 * 4096)
        let specification = try specification()
        #expect(throws: expected) { _ = try Workload(specification: specification, ram: ram) }
        #expect(throws: expected) {
            _ = try Verification.run(
                ram: ram, state: WorkloadState(initialOf: specification), threads: 1)
        }
    }
}
