import Synchronization
import TestSupport
import Testing

@testable import PostcopyRuntime

@Suite("VCPUHalts")
struct VCPUHaltsTests {
    private struct Edge: Equatable {
        let vcpu: Int
        let isHalted: Bool
        let at: UInt64
    }

    private func drained(_ halts: VCPUHalts) -> [Edge] {
        var edges: [Edge] = []
        halts.drain { edges.append(Edge(vcpu: $0, isHalted: $1, at: $2)) }
        return edges
    }

    @Test("what several vCPUs note is taken in the order of time, and once")
    func order() {
        let halts = VCPUHalts(vcpuCount: 3)
        halts.note(vcpu: 2, isHalted: true, at: 10)
        halts.note(vcpu: 2, isHalted: false, at: 40)
        halts.note(vcpu: 0, isHalted: true, at: 20)
        // Neither says anything new.
        halts.note(vcpu: 0, isHalted: true, at: 25)
        halts.note(vcpu: 1, isHalted: false, at: 30)
        #expect(
            drained(halts) == [
                Edge(vcpu: 2, isHalted: true, at: 10), Edge(vcpu: 0, isHalted: true, at: 20),
                Edge(vcpu: 2, isHalted: false, at: 40),
            ])
        #expect(drained(halts) == [])
        halts.note(vcpu: 0, isHalted: false, at: 50)
        #expect(drained(halts) == [Edge(vcpu: 0, isHalted: false, at: 50)])
        #expect(halts.droppedCount == 0)
    }

    @Test("a full ring drops halts with their ends, and never an end alone", arguments: [0, 1, 7])
    func full(before: Int) {
        let halts = VCPUHalts(vcpuCount: 2)
        for _ in 0..<before { halts.note(vcpu: 0, isHalted: true, at: 1) }
        let noted = 400
        for halt in 0..<noted {
            halts.note(vcpu: 0, isHalted: true, at: UInt64(2 + 2 * halt))
            halts.note(vcpu: 0, isHalted: false, at: UInt64(3 + 2 * halt))
        }
        let edges = drained(halts)
        #expect(edges.count == VCPUHalts.edgeCapacity)
        #expect(edges.indices.allSatisfy { edges[$0].isHalted == ($0 % 2 == 0) })
        #expect(halts.droppedCount == UInt64(noted - VCPUHalts.edgeCapacity / 2))
        // There is room again.
        halts.note(vcpu: 0, isHalted: true, at: 9_000)
        #expect(drained(halts) == [Edge(vcpu: 0, isHalted: true, at: 9_000)])
    }

    @Test("threads that note while another reads lose nothing that is not counted")
    func concurrent() throws {
        let (vcpuCount, noted) = (2, 20_000)
        let halts = VCPUHalts(vcpuCount: vcpuCount)
        let state = SharedEnd()
        let writers = try (0..<vcpuCount).map { vcpu in
            try Bounded("vcpu-\(vcpu)") {
                for _ in 0..<noted {
                    halts.note(vcpu: vcpu, isHalted: true)
                    halts.note(vcpu: vcpu, isHalted: false)
                }
                state.ended.add(1, ordering: .releasing)
            }
        }
        var edges: [Edge] = []
        var isLast = false
        while !isLast {
            isLast = state.ended.load(ordering: .acquiring) == vcpuCount
            edges += drained(halts)
        }
        for writer in writers { #expect(writer.output() != nil) }
        for vcpu in 0..<vcpuCount {
            let own = edges.filter { $0.vcpu == vcpu }
            #expect(own.indices.allSatisfy { own[$0].isHalted == ($0 % 2 == 0) })
            #expect(zip(own, own.dropFirst()).allSatisfy { $0.at <= $1.at })
        }
        #expect(edges.count / 2 + Int(halts.droppedCount) == vcpuCount * noted)
    }
}

private final class SharedEnd: Sendable {
    let ended = Atomic<Int>(0)
}
