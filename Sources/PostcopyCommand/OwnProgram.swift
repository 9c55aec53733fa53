internal import Foundation
internal import Glibc

/// The file of the program that runs.
enum OwnProgram {
    /// Also when that was replaced meanwhile.
    static var path: String {
        let link = "/proc/\(getpid())/exe"
        let path = try? FileManager.default.destinationOfSymbolicLink(atPath: link)
        guard let path, FileManager.default.isExecutableFile(atPath: path) else { return link }
        return path
    }
}
