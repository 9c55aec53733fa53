internal import Foundation
internal import Glibc

/// A folder of our own for a unix socket or a file, which nobody else may enter.
struct PrivateFolder {
    static let prefix = "postcopy-"
    private static let socketName = "channel"
    private static let faultLogName = "faults"

    private let path: String

    /// Where folders of our own are made; `TMPDIR`, or the usual one where that is unset or empty.
    static var temporaryFolder: String {
        let named = ProcessInfo.processInfo.environment["TMPDIR"] ?? ""
        return named.isEmpty ? "/tmp" : named
    }

    var socketPath: String { "\(path)/\(Self.socketName)" }
    /// It ends in the number of this process, which reads the log.
    var faultLogPath: String { "\(path)/\(Self.faultLogName).\(getpid())" }

    /// - Throws: `Refusal` when the temporary folder takes none.
    init(leftovers: Leftovers) throws {
        let base = Self.temporaryFolder
        let name = "\(Self.prefix)\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        let place = URL(fileURLWithPath: base).appendingPathComponent(name)
        let path = place.path
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700])
        } catch {
            throw Refusal.environment(
                "no folder of our own in \(base): \(PlainReason.of(error, at: place)); "
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

    /// Removes the folder of such a fault log unless the process that started this one, and reads the
    /// log, is still there.
    static func adopt(faultLog: String, leftovers: Leftovers) {
        let folder = URL(fileURLWithPath: faultLog).deletingLastPathComponent()
        guard folder.lastPathComponent.hasPrefix(prefix) else { return }
        let path = folder.path
        let parent = faultLog.split(separator: ".").last.flatMap { Int32($0) }
        leftovers.add { if getppid() != parent { remove(path) } }
    }

    /// Removes the folder with what is ours, and only when nobody put anything else there.
    private static func remove(_ path: String) {
        let files = FileManager.default
        guard let names = try? files.contentsOfDirectory(atPath: path),
            // A log that was being written has a longer name.
            names.allSatisfy({ $0 == socketName || $0.hasPrefix(faultLogName) })
        else { return }
        try? files.removeItem(atPath: path)
    }
}
