internal import Postcopy

/// The folder that a machine is written in: made, empty and locked. What a process left behind that was
/// killed is told by its lock, which went with the process.
struct ParkingFolder: ~Copyable, Sendable {
    let place: ParkPlace
    let folder: Folder
    private let parent: Folder

    /// Tries that meet somebody who makes or removes the same folder at that moment.
    private static let triesMax = 10

    /// - Throws: `ParkError`; then nothing is left of it.
    init(_ place: ParkPlace) throws(ParkError) {
        let parent: Folder
        do throws(Errno) { parent = try Folder(place.parentPath) } catch {
            throw .noParent(path: place.parentPath, error)
        }
        try Self.checkFree(place, parent)
        for _ in 0..<Self.triesMax {
            guard let folder = try Self.lockedFolder(place, parent) else { continue }
            do throws(ParkError) {
                // Whoever had the lock until now may have ended well.
                try Self.checkFree(place, parent)
                try Self.empty(folder, place)
            } catch {
                try? parent.remove(folder: place.temporaryName)
                throw error
            }
            self.place = place
            self.parent = parent
            self.folder = folder
            return
        }
        throw .inUse(path: place.path)
    }

    /// What can be written there; `nil` when nobody knows.
    var freeBytes: UInt64? {
        do throws(Errno) { return try folder.freeBytes() } catch { return nil }
    }

    /// Gives the folder its name, in one step.
    /// - Throws: `EEXIST` when there is something of that name.
    func publish() throws(Errno) { try parent.rename(place.temporaryName, to: place.name) }

    /// Waits until the name is on the disk.
    func syncName() throws(Errno) { try parent.sync() }

    /// Removes what was written, as far as that can be done.
    func empty() { try? Self.empty(folder, place) }

    /// Removes the folder as long as it has no other name.
    func remove() {
        empty()
        try? parent.remove(folder: place.temporaryName)
    }

    private static func checkFree(
        _ place: ParkPlace, _ parent: borrowing Folder
    ) throws(ParkError) {
        let isTaken: Bool
        do throws(Errno) { isTaken = try parent.holds(place.name) } catch {
            throw error == .nameTooLong
                ? .badName(path: place.path) : .noParent(path: place.parentPath, error)
        }
        if isTaken { throw .exists(path: place.path) }
    }

    /// Makes and locks the folder; `nil` when that has gone meanwhile.
    private static func lockedFolder(
        _ place: ParkPlace, _ parent: borrowing Folder
    ) throws(ParkError) -> Folder? {
        let name = place.temporaryName
        do throws(Errno) { try parent.make(folder: name) } catch {
            switch error {
            case .exists: break
            case .nameTooLong: throw .badName(path: place.path)
            default: throw .notWritable(folder: place.parentPath, error)
            }
        }
        let folder: Folder
        do throws(Errno) { folder = try parent.open(folder: name) } catch {
            guard error != .noEntry else { return nil }
            throw .foreignEntry(path: place.temporaryPath)
        }
        let isLocked: Bool
        let isThere: Bool
        do throws(Errno) {
            isLocked = try folder.lock()
            isThere = try parent.holds(folder, as: name)
        } catch { throw .noLocks(folder: place.parentPath, error) }
        guard isLocked else { throw .inUse(path: place.path) }
        guard isThere else { return nil }
        return folder
    }

    /// Removes what a parking wrote, once it is clear that nothing else is there.
    private static func empty(
        _ folder: borrowing Folder, _ place: ParkPlace
    ) throws(ParkError) {
        func refusal(_ error: Errno) -> ParkError {
            .notWritable(folder: place.temporaryPath, error)
        }
        let names: [String]
        do throws(Errno) { names = try folder.names() } catch { throw refusal(error) }
        if let foreign = names.first(where: { !ParkManifest.isOwn($0) }) {
            throw .foreignEntry(path: "\(place.temporaryPath)/\(foreign)")
        }
        for name in names {
            do throws(Errno) { try folder.remove(file: name) } catch { throw refusal(error) }
        }
    }
}
