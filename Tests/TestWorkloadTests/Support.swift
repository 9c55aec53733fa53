import Glibc
import LinuxKernel
import PageModel

@testable import TestWorkload

/// A specification with the values that a test does not care about.
func specification(
    seed: UInt64 = 0x5EED, vcpus: Int = 1, pattern: AccessPattern = .uniform,
    writeFraction: Double = 0.5, hotPages: Int = 24, rate: UInt64 = 0,
    fill: InitialFill = .mixed, pages: Int = 32
) throws -> WorkloadSpecification {
    try WorkloadSpecification(
        seed: seed, vcpuCount: vcpus, pattern: pattern, writeFraction: writeFraction,
        hotSetBytes: UInt64(hotPages) * 4096, accessesPerSecond: rate, fill: fill,
        memoryBytes: UInt64(pages) * 4096)
}

func freshRAM(pages: Int) throws -> GuestRAM {
    let geometry = try BlockGeometry(
        name: "pc.ram", lengthBytes: UInt64(pages) * 4096, hostPage: .target)
    return try GuestRAM(geometry, backing: .anonymous)
}

func copy(of ram: GuestRAM) throws -> GuestRAM {
    let other = try freshRAM(pages: ram.geometry.targetPageCount)
    for offset in stride(from: 0, to: ram.geometry.lengthBytes, by: 8) {
        let word = ram.loadWord(at: offset)
        if word != 0 { other.storeWord(word, at: offset) }
    }
    return other
}

/// A workload whose memory holds its initial content.
func filled(_ specification: WorkloadSpecification) throws -> (Workload, GuestRAM) {
    let ram = try freshRAM(pages: specification.pageCount)
    let workload = try Workload(specification: specification, ram: ram)
    workload.fill(threads: 1)
    return (workload, ram)
}

/// The same steps as a run of the vCPU threads, but a known number of each vCPU's, on this thread.
func ran(
    _ specification: WorkloadSpecification, stepsPerVCPU steps: Int
) throws -> (WorkloadState, GuestRAM) {
    let (_, ram) = try filled(specification)
    var memory = GuestMemory(ram: ram, content: ContentModel(specification: specification))
    let generators = (0..<specification.vcpuCount).map { vcpu in
        var generator = AccessGenerator(
            specification: specification, vcpu: vcpu,
            state: GeneratorState(specification: specification, vcpu: vcpu))
        for _ in 0..<steps { generator.step(&memory) }
        return generator.state
    }
    return (WorkloadState(specification: specification, generators: generators), ram)
}

/// Runs until `steps` steps have been done, at least a few by every vCPU, and stops.
func finished(
    _ specification: WorkloadSpecification, steps: UInt64
) throws -> (WorkloadState, GuestRAM) {
    let (workload, ram) = try filled(specification)
    try workload.start()
    wait(for: workload, steps: steps)
    workload.pause()
    while let last = workload.saveState().generators.map(\.stepsDone).min(), last < 1 + steps / 20 {
        let done = workload.stepsDone
        workload.resume()
        wait(for: workload, steps: done + 1)
        workload.pause()
    }
    workload.stop()
    return (workload.saveState(), ram)
}

/// Lets the vCPUs have the cores until `workload` has done `steps` steps in all; traps after 20 s.
func wait(for workload: Workload, steps: UInt64) {
    let deadline = Monotonic.now() + 20_000_000_000
    while workload.stepsDone < steps {
        precondition(Monotonic.now() < deadline, "the vCPUs do not get on")
        sched_yield()
    }
}
