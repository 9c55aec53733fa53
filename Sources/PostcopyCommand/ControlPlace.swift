internal import Foundation
internal import Glibc
internal import Postcopy

/// Where the control sockets of this user's migrations are: `PID.sock` in a folder that nobody else
/// may enter.
enum ControlPlace {
    static let folderName = "postcopy"
    private static let ending = ".sock"

    /// Names a folder that is used instead of the usual ones.
    static let folderVariable = "POSTCOPY_CONTROL_FOLDER"

    /// Best first. A login's runtime folder comes last, since it goes with the login and a migration
    /// may not; it is looked into also where the variable is unset, as under `sudo` or `cron`.
    static func candidates(
        environment: [String: String] = ProcessInfo.processInfo.environment,
        user: UInt32 = geteuid()
    ) -> [String] {
        func absolute(_ name: String) -> String? {
            environment[name].flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        if let chosen = absolute(folderVariable) { return [chosen] }
        let usual = "/run/user/\(user)"
        let runtime = absolute("XDG_RUNTIME_DIR")
        return [
            user == 0 ? "/run/\(folderName)" : nil, "/tmp/\(folderName)-\(user)",
            runtime.map { "\($0)/\(folderName)" },
            runtime == usual ? nil : "\(usual)/\(folderName)",
        ].compactMap(\.self)
    }

    /// Where this process's socket goes; makes the folder.
    /// - Throws: `Refusal` when no folder can be had.
    static func ownPath(candidates: [String] = candidates()) throws -> String {
        var reasons: [String] = []
        for folder in candidates {
            let path = path(in: folder, of: getpid())
            guard path.utf8.count <= ChannelAddress.unixPathBytesMax else {
                reasons.append("\(folder) is too long")
                continue
            }
            do {
                try make(folder)
                return path
            } catch {
                reasons.append("\(folder): \(error)")
            }
        }
        throw Refusal.environment(reasons.joined(separator: "; "))
    }

    static func path(in folder: String, of pid: Int32) -> String { "\(folder)/\(pid)\(ending)" }

    /// The sockets that there are, also those that a killed process left.
    static func sockets(candidates: [String] = candidates()) -> [(pid: Int32, path: String)] {
        candidates.filter { problem(of: $0) == nil }.flatMap { folder in
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            return names.compactMap { name -> (pid: Int32, path: String)? in
                guard name.hasSuffix(ending), let pid = Int32(name.dropLast(ending.count)) else {
                    return nil
                }
                return (pid, "\(folder)/\(name)")
            }
        }.sorted { $0.pid < $1.pid }
    }

    /// Removes the socket of a process that is gone, if it is one.
    static func clear(_ path: String, of pid: Int32) {
        guard ControlCall.state(of: path) == .stale, kill(pid, 0) != 0, errno == ESRCH else {
            return
        }
        try? FileManager.default.removeItem(atPath: path)
    }

    private static func make(_ path: String) throws {
        let error = madeNew(URL(fileURLWithPath: path))
        if let error, error != .exists { throw error }
        if let problem = problem(of: path) { throw Refusal.environment(problem) }
    }

    /// Makes a folder that only this user may enter; answers why it could not.
    private static func madeNew(_ place: URL) -> Errno? {
        do throws(Errno) {
            let parent = try Folder(place.deletingLastPathComponent().path)
            try parent.make(folder: place.lastPathComponent)
            return nil
        } catch { return error }
    }

    /// Why a folder is none to put a socket in or to take one from: somebody else may have made it.
    static func problem(of path: String) -> String? {
        guard let found = try? FileManager.default.attributesOfItem(atPath: path) else {
            return "it is not there"
        }
        guard found[.type] as? FileAttributeType == .typeDirectory else { return "it is no folder" }
        guard (found[.ownerAccountID] as? NSNumber)?.uint32Value == geteuid() else {
            return "it is somebody else's"
        }
        guard let mode = (found[.posixPermissions] as? NSNumber)?.uint16Value, mode & 0o077 == 0
        else { return "others may enter it; take that away with 'chmod 700 \(path)'" }
        return nil
    }
}
