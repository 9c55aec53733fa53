import Foundation
import Postcopy
import TestSupport

@testable import PostcopyCommand

/// The log of a run whose waits are all explained: 300 of two vCPUs and of a thread with an odd name.
func recordedLog(seed: UInt64) -> FaultLog {
    var random = SeededRandom(seed: seed)
    var log = FaultLog()
    log.blocks = [FaultLog.Block(name: "ram<&>", lengthBytes: 1 << 20, hostPageBytes: 4096)]
    var destination = FaultLog.Destination()
    var source = FaultLog.Source()
    destination.side.bootID = "here"
    source.side.bootID = "here"
    destination.vcpuThreads = [10, 11]
    destination.threadNames = [12: "io, \"the\" thread"]
    destination.overlappedNanoseconds = 1_000
    var now: UInt64 = 1_000_000
    for _ in 0..<300 {
        func later(_ bound: Int) -> UInt64 {
            now += UInt64(1 + random.below(bound))
            return now
        }
        var (wait, service) = (WaitRecord(), ServiceRecord())
        wait.thread = Int32(10 + random.below(3))
        wait.page = UInt64(random.below(256))
        service.page = wait.page
        (wait.began, wait.read, wait.requested) = (later(5_000), later(5_000), later(2_000))
        (service.received, service.begun) = (later(90_000), later(20_000))
        service.written = later(9_000)
        (wait.firstByte, wait.placed, wait.ended) = (later(90_000), later(5_000), later(900))
        wait.flags = random.below(3) == 0 ? [.urgent] : [.urgent, .kernelTimed]
        destination.waits.append(wait)
        source.services.append(service)
    }
    log.destination = destination
    log.source = source
    return log
}

/// A folder for the files of one test.
func inFolder(_ body: (URL) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory
        .appendingPathComponent("postcopy-files-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder)
}
