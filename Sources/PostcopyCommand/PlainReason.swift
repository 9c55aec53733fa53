internal import Foundation
internal import Postcopy

/// Foundation's errors in the words of the rest of the program.
enum PlainReason {
    /// The kernel's word where there is one. Foundation's own is a sentence about an operation; what
    /// hinders somebody who makes `file` is asked anew.
    static func of(_ error: any Error, at file: URL? = nil) -> String {
        let outer = error as NSError
        let cause = outer.userInfo[NSUnderlyingErrorKey] as? NSError ?? outer
        if cause.domain == NSPOSIXErrorDomain {
            return Errno(rawValue: Int32(cause.code)).description
        }
        if let known = file.flatMap(obstacle) { return known }
        // "The operation could not be completed. The file is gone.": the last sentence says it.
        let sentences = cause.localizedDescription.components(separatedBy: ". ")
        let last = sentences.last ?? ""
        return last.hasSuffix(".") ? String(last.dropLast()) : last
    }

    /// What is wrong with the folder in which `file` should be made.
    private static func obstacle(_ file: URL) -> String? {
        let folder = file.deletingLastPathComponent().path
        let attributes = try? FileManager.default.attributesOfItem(
            atPath: URL(fileURLWithPath: folder).resolvingSymlinksInPath().path)
        guard let attributes else { return "there is no folder \(folder)" }
        guard attributes[.type] as? FileAttributeType == .typeDirectory else {
            return "\(folder) is no folder"
        }
        guard FileManager.default.isWritableFile(atPath: folder) else {
            return "you may not write to the folder \(folder)"
        }
        return nil
    }
}
