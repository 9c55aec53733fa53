import Glibc

/// Huge pages of 2 MiB, reserved while a test needs them. Tests wait for each other here, those of
/// other processes too, by locking the file that is changed.
final class HugePagePool {
    private static let path = "/proc/sys/vm/nr_hugepages"
    private let count: Int
    /// Whether the system had room for all of them.
    private let isWhole: Bool
    private let lock: Int32
    private var isHeld = true

    /// Raises the pool by `count` pages, as far as the system allows.
    init(reserving count: Int) {
        self.count = count
        lock = unsafe open(Self.path, O_RDWR | O_CLOEXEC)
        _ = flock(lock, LOCK_EX)
        let wanted = Self.read() + count
        Self.write(wanted)
        isWhole = Self.read() >= wanted
    }

    deinit { release() }

    func release() {
        guard isHeld else { return }
        isHeld = false
        Self.write(max(0, Self.read() - count))
        close(lock)
    }

    static func canHold(_ count: Int) -> Bool {
        HugePagePool(reserving: count).isWhole
    }

    private static func read() -> Int {
        guard let file = unsafe fopen(path, "r") else { return 0 }
        defer { _ = unsafe fclose(file) }
        var text = [CChar](repeating: 0, count: 32)
        guard unsafe fgets(&text, 32, file) != nil else { return 0 }
        return unsafe atol(text)
    }

    private static func write(_ count: Int) {
        guard let file = unsafe fopen(path, "w") else { return }
        _ = unsafe fputs("\(count)\n", file)
        _ = unsafe fclose(file)
    }
}
