import Glibc
import LinuxKernel

/// What a migration may leave behind in this process: threads and descriptors of its kinds.
struct Leftovers: Equatable {
    let threads: Int
    let descriptors: Int

    static func now() -> Leftovers {
        let threads = entries(of: "/proc/self/task").filter { task in
            let name = firstLine(of: "/proc/self/task/\(task)/comm")
            return ["pc-", "vcpu", "source", "destination"].contains { name.hasPrefix($0) }
        }
        let descriptors = entries(of: "/proc/self/fd").filter { entry in
            let target = link("/proc/self/fd/\(entry)")
            return ["socket:", "memfd:"].contains { target.hasPrefix($0) }
                || target.contains("userfaultfd") || target.contains("eventfd")
        }
        return Leftovers(threads: threads.count, descriptors: descriptors.count)
    }

    /// Whether no more is there than `before`, at the latest in a minute: a thread that was joined stays
    /// in /proc for a moment, and tests of other modules have memory and sockets of their own for longer.
    static func areGone(since before: Leftovers) -> Bool {
        let deadline = Monotonic.now() + 60_000_000_000
        while Monotonic.now() < deadline {
            let now = now()
            if now.threads <= before.threads, now.descriptors <= before.descriptors { return true }
            sched_yield()
        }
        return false
    }

    private static func entries(of folder: String) -> [String] {
        guard let stream = unsafe opendir(folder) else { return [] }
        defer { _ = unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) {
                    unsafe String(cString: $0)
                }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    private static func link(_ path: String) -> String {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            unsafe readlink(path, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), 256)
        }
        return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
    }

    static func firstLine(of path: String) -> String {
        guard let file = unsafe fopen(path, "r") else { return "" }
        defer { _ = unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = unsafe fread(&bytes, 1, 64, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
