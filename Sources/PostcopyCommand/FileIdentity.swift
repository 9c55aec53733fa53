internal import Foundation

/// Which file a path leads to, over links and by any of its names, also where there is none yet.
indirect enum FileIdentity: Equatable {
    case present(system: Int, number: Int)
    case absent(name: String, folder: FileIdentity)

    /// `nil` for what is no place of a file: a device, a pipe, a folder.
    init?(path: String) {
        let place = URL(fileURLWithPath: path).resolvingSymlinksInPath()
        if let found = try? FileManager.default.attributesOfItem(atPath: place.path) {
            guard found[.type] as? FileAttributeType == .typeRegular else { return nil }
            self.init(found)
            return
        }
        let folder = place.deletingLastPathComponent().resolvingSymlinksInPath().path
        guard let found = try? FileManager.default.attributesOfItem(atPath: folder),
            let known = FileIdentity(found)
        else { return nil }
        self = .absent(name: place.lastPathComponent, folder: known)
    }

    private init?(_ attributes: [FileAttributeKey: Any]) {
        guard let system = attributes[.systemNumber] as? Int,
            let number = attributes[.systemFileNumber] as? Int
        else { return nil }
        self = .present(system: system, number: number)
    }
}

extension ReportFile {
    /// What is written last would be all that is left of a file with two uses.
    /// - Parameters:
    ///   - outputs: with the option that names each.
    ///   - inputs: paths of what is read.
    /// - Throws: `Refusal` when an output is another one, or is read.
    static func checkApart(
        _ outputs: [(option: String, file: ReportFile)], from inputs: [String] = []
    ) throws(Refusal) {
        let read = inputs.filter { $0 != "-" }.compactMap { FileIdentity(path: $0) }
        var written: [(option: String, identity: FileIdentity)] = []
        for (option, file) in outputs {
            guard case .file(let place) = file, let identity = FileIdentity(path: place.path)
            else { continue }
            guard !read.contains(identity) else {
                throw .usage("\(option) \(place.path) is what is read: give another file")
            }
            if let other = written.first(where: { $0.identity == identity }) {
                throw .usage(
                    "\(other.option) and \(option) are one file, \(place.path): give each its own")
            }
            written.append((option, identity))
        }
    }
}
