internal import Postcopy

// A machine that was handed on runs elsewhere; a second copy of it would write to the same disks.
extension ParkDirectory {
    /// Stands in the folder of a machine that was handed on, and says where to.
    static let handedOnFileName = "handed-on"

    /// Notes that the machine may run at `address` from now on.
    /// - Throws: `ParkError.writing`.
    public func noteHandedOn(to address: String) throws(ParkError) {
        let text = Array("\(address)\n".utf8)
        do throws(Errno) {
            let folder = try Folder(path)
            // A second hand-over was asked for in the knowledge of the first.
            if try folder.holds(Self.handedOnFileName) {
                try folder.remove(file: Self.handedOnFileName)
            }
            let file = try folder.make(file: Self.handedOnFileName)
            try file.write(text.span, at: 0)
            try file.sync()
            try folder.sync()
        } catch {
            throw .writing(
                path: "\(path)/\(Self.handedOnFileName)", error, neededBytes: 0, freeBytes: nil)
        }
    }

    /// Refuses a machine that was handed on.
    /// - Throws: `ParkError.handedOn`.
    public func checkIsHere() throws(ParkError) {
        let isGone: Bool
        do throws(Errno) {
            let folder = try Folder(path)
            isGone = try folder.holds(Self.handedOnFileName)
        } catch { throw .reading(path: path, error) }
        if isGone { throw .handedOn(path: path) }
    }
}
