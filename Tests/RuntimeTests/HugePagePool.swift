import Glibc

/// Huge pages of 2 MiB, reserved while a test needs them.
struct HugePagePool {
    private static let path = "/proc/sys/vm/nr_hugepages"
    private let before: Int

    /// Raises the pool by `count` pages, as far as the system allows.
    init(reserving count: Int) {
        before = Self.read()
        Self.write(before + count)
    }

    func release() { Self.write(before) }

    static func canHold(_ count: Int) -> Bool {
        let before = read()
        write(before + count)
        defer { write(before) }
        return read() >= before + count
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
