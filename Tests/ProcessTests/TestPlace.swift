import Foundation
import LinuxKernel

/// A folder that one test's processes have for themselves, and by which they are known.
struct TestPlace {
    let folder: URL
    private static let marker = "POSTCOPY_TEST_PLACE"

    init() throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-test-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        try FileManager.default.createDirectory(
            atPath: runtimeFolder, withIntermediateDirectories: false)
    }

    /// Control sockets have a folder beside, which whoever is killed may leave them in.
    var environment: [String: String] {
        [
            "TMPDIR": folder.path, "POSTCOPY_CONTROL_FOLDER": controlFolder,
            Self.marker: folder.path,
        ]
    }

    private var runtimeFolder: String { folder.path + "-runtime" }

    /// The control sockets of the processes that run here.
    var controlSockets: [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: controlFolder)) ?? []
    }

    var controlFolder: String { runtimeFolder + "/postcopy" }

    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    /// What is there and should not be: files, and processes of this place that still run.
    func leftovers(expecting expected: Set<String> = []) -> [String] {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { !expected.contains($0) } + runningProcesses()
    }

    /// Waits until nothing is left; answers what is when the time has run out.
    func leftovers(
        expecting expected: Set<String> = [], within seconds: Double
    ) throws -> [String] {
        let deadline = Date(timeIntervalSinceNow: seconds)
        let never = try EventFlag()
        while true {
            let left = leftovers(expecting: expected)
            if left.isEmpty || Date() >= deadline { return left }
            _ = never.wait(timeoutNanoseconds: 10_000_000)
        }
    }

    func remove() {
        try? FileManager.default.removeItem(at: folder)
        try? FileManager.default.removeItem(atPath: runtimeFolder)
    }

    /// Zombies have no environment, so that those of another parent do not count.
    private func runningProcesses() -> [String] {
        let mark = Data("\(Self.marker)=\(folder.path)\0".utf8)
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return entries.filter { entry in
            guard Int(entry) != nil,
                let environment = FileManager.default.contents(atPath: "/proc/\(entry)/environ")
            else { return false }
            return environment.range(of: mark) != nil
        }.map { "process \($0)" }
    }
}

/// Runs `body` in a place of its own, which is removed whatever happens.
func inPlace<Result>(_ body: (TestPlace) throws -> Result) throws -> Result {
    let place = try TestPlace()
    defer { place.remove() }
    return try body(place)
}

/// The pool of 2 MiB pages of this host.
enum HugePagePool {
    private static let folder = "/sys/kernel/mm/hugepages/hugepages-2048kB/"

    static var isOurs: Bool {
        geteuid() == 0 && FileManager.default.isWritableFile(atPath: folder + "nr_hugepages")
    }

    static func read(_ name: String) -> Int {
        let text = try? String(contentsOfFile: folder + name, encoding: .utf8)
        return text.flatMap { Int($0.filter(\.isNumber)) } ?? 0
    }

    /// Has `count` more pages in the pool during `body`. The other tests that change the pool lock
    /// the same file.
    static func raised(by count: Int, _ body: () throws -> Void) throws {
        let lock = unsafe open("/proc/sys/vm/nr_hugepages", O_RDWR | O_CLOEXEC)
        defer { close(lock) }
        _ = flock(lock, LOCK_EX)
        try write(read("nr_hugepages") + count)
        defer { try? write(max(0, read("nr_hugepages") - count)) }
        try body()
    }

    /// The kernel takes a number as it is written, and knows no renaming.
    private static func write(_ count: Int) throws {
        let handle = try FileHandle(
            forWritingTo: URL(fileURLWithPath: folder + "nr_hugepages"))
        try handle.write(contentsOf: Data("\(count)\n".utf8))
        try handle.close()
    }
}
