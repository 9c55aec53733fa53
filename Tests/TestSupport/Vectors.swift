import Foundation

/// Channels of migrations as a real QEMU sent them; `manifest.json` beside them says how they were made.
public enum Vectors {
    /// Those that are whole.
    public static let whole = ["precopy", "postcopy", "postcopy-preempt", "postcopy-hugetlb"]

    private static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Vectors")

    /// Where a file stands, as in `precopy/main.bin`.
    public static func path(_ name: String) -> String {
        folder.appendingPathComponent(name).path
    }

    public static func exists(_ name: String) -> Bool {
        FileManager.default.fileExists(atPath: path(name))
    }

    public static func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: path(name))))
    }
}
