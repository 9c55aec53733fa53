import ArgumentParser
import LinuxKernel
import PageModel
import TestWorkload
import Testing

@testable import PostcopyCommand

@Suite struct MemoryPlanTests {
    @Test("memory that does not fit is refused with what would", arguments: [1, 2] as [UInt64])
    func room(sides: UInt64) throws {
        let plan = try MemoryPlan(try MemoryOptions.parse(["--memory", "1G"]))
        let needed = sides * ((1 << 30) + MemoryPlan.overheadBytes)
        try plan.checkRoom(sides: sides, available: needed)
        let error = #expect(throws: Refusal.self) {
            try plan.checkRoom(sides: sides, available: needed - 1)
        }
        #expect(error?.description.contains("give at most 1023M") == true)
        #expect(error?.exitStatus == 1)
    }

    @Test("huge pages are not taken from the memory that is available")
    func hugeRoom() throws {
        let plan = try MemoryPlan(
            try MemoryOptions.parse(["--memory", "1G", "--backing", "hugetlb"]))
        #expect(plan.page == .size2MiB)
        try plan.checkHugePages(sides: 2, free: 1024)
        try plan.checkHugePages(sides: 2, free: nil)
    }

    @Test("too few huge pages are refused with what all sides need", arguments: [1, 2] as [UInt64])
    func tooFewHugePages(sides: UInt64) throws {
        let plan = try MemoryPlan(
            try MemoryOptions.parse(["--memory", "1G", "--backing", "hugetlb"]))
        let error = #expect(throws: Refusal.self) {
            try plan.checkHugePages(sides: sides, free: 500)
        }
        let text = error?.description ?? ""
        #expect(text.contains("\(512 * sides) huge pages of 2M"))
        #expect(text.contains("add \(512 * sides - 500) to nr_hugepages"))
    }

    @Test("a source chooses a hot set that every vCPU has a page of", arguments: 1...64)
    func hotSet(vcpus: Int) throws {
        let options = try WorkloadOptions.parse(["--vcpus", "\(vcpus)"])
        for pages: UInt64 in [64, 65, 100, 1000] {
            let specification = try options.specification(memoryBytes: pages * 4096)
            #expect(specification.hotSetBytes >= UInt64(vcpus) * 4096)
            #expect(specification.hotSetBytes <= pages * 4096)
        }
    }
}
