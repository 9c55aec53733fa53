internal import Postcopy

// A machine that was handed on runs elsewhere; a second copy of it would write to the same disks.
extension ParkDirectory {
    /// Stands in the folder of a machine that was handed on, and says where to.
    static let handedOnFileName = "handed-on"

    /// Notes that the machine may run at `address` from now on.
    /// - Parameter again: whether that it was handed on before is no obstacle.
    /// - Throws: `ParkError.handedOn`; `ParkError.writing` when the note cannot be made.
    public func noteHandedOn(to address: String, again: Bool = false) throws(ParkError) {
        let text = Array("\(address)\n".utf8)
        do throws(Errno) {
            let folder = try Folder(path)
            if again, try folder.holds(Self.handedOnFileName) {
                try folder.remove(file: Self.handedOnFileName)
            }
            // Made by one process alone, whoever else tries at the same time.
            let file = try folder.make(file: Self.handedOnFileName)
            try file.write(text.span, at: 0)
            try file.sync()
            try folder.sync()
        } catch {
            guard error != .exists else { throw .handedOn(path: path) }
            takeBackHandedOn()
            throw .writing(
                path: "\(path)/\(Self.handedOnFileName)", error, neededBytes: 0, freeBytes: nil)
        }
    }

    /// Takes the note back of a machine that has stayed. Where that fails, the next hand-over is refused
    /// until it is asked for in the knowledge of this one.
    public func takeBackHandedOn() {
        guard let folder = try? Folder(path) else { return }
        try? folder.remove(file: Self.handedOnFileName)
    }
}
