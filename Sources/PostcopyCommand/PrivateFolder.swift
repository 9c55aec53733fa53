internal import Foundation

/// A folder of our own for a unix socket, which nobody else may enter.
struct PrivateFolder {
    static let prefix = "postcopy-"
    private static let socketName = "channel"

    private let path: String

    var socketPath: String { "\(path)/\(Self.socketName)" }

    /// - Throws: `Refusal` when the temporary folder takes none.
    init(leftovers: Leftovers) throws {
        let base = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
        let name = "\(Self.prefix)\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        let place = URL(fileURLWithPath: base).appendingPathComponent(name)
        let path = place.path
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700])
        } catch {
            throw Refusal.environment(
                "no folder for the socket in \(base): \(PlainReason.of(error, at: place)); "
                    + "set TMPDIR to a folder that you may write to")
        }
        self.path = path
        leftovers.add { Self.remove(path) }
    }

    /// Takes the folder of such a socket over, so that either process removes it whoever is left.
    static func adopt(socket: String, leftovers: Leftovers) {
        let folder = URL(fileURLWithPath: socket).deletingLastPathComponent()
        guard folder.lastPathComponent.hasPrefix(prefix) else { return }
        let path = folder.path
        leftovers.add { remove(path) }
    }

    /// Removes the folder with its socket, and only when nobody put anything else there.
    private static func remove(_ path: String) {
        let files = FileManager.default
        guard let names = try? files.contentsOfDirectory(atPath: path),
            names.allSatisfy({ $0 == socketName })
        else { return }
        try? files.removeItem(atPath: path)
    }
}
