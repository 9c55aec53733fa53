internal import Postcopy
internal import Synchronization

/// A place for a machine to be parked, taken before the machine is. Gone with its last user unless a
/// machine was committed to it.
public final class ParkReservation: Sendable {
    private let folder: ParkingFolder
    private let stage = Mutex(Stage.reserved)

    private enum Stage {
        case reserved
        case writing
        /// Complete under its name, which may not be on the disk yet.
        case named
        case kept
        case abandoned
    }

    init(_ place: ParkPlace) throws(ParkError) { folder = try ParkingFolder(place) }

    deinit { abandon() }

    /// Where the machine will be.
    public var path: String { folder.place.path }

    /// Refuses a machine that the disk has no room for now.
    /// - Throws: `ParkError.tooLittleSpace`; the reservation stays.
    public func check(bytesNeeded: UInt64) throws(ParkError) {
        guard let free = folder.freeBytes, free < bytesNeeded else { return }
        throw .tooLittleSpace(
            folder: folder.place.parentPath, neededBytes: bytesNeeded, freeBytes: free)
    }

    /// Writes a machine, and gives the folder its name when all of it is on the disk. Blocking: as long
    /// as the disk takes.
    ///
    /// When it fails, the half-written files are removed, the reservation stays, and it can be called
    /// again; the machine is only read.
    /// - Parameter progress: called now and then with the bytes of memory that are done, of how many.
    /// - Precondition: every page of the machine is there, nobody writes it, and no other thread commits.
    /// - Throws: `ParkError.writing`, which says what lacks; `ParkError.exists` when something of the
    ///   name was made meanwhile.
    public func commit(
        _ machine: ParkedMachine,
        progress: (_ doneBytes: UInt64, _ totalBytes: UInt64) -> Void = { _, _ in }
    ) throws(ParkError) {
        let before = stage.withLock { stage in
            defer { if stage == .reserved { stage = .writing } }
            return stage
        }
        // Who abandons it ends the process: there is nobody left to keep it for.
        if before == .abandoned { return }
        precondition(before != .writing, "committed by two")
        if before == .reserved {
            do throws(ParkError) { try write(machine, progress) } catch {
                stage.withLock { $0 = .reserved }
                throw error
            }
            stage.withLock { $0 = .named }
        }
        do throws(Errno) { try folder.syncName() } catch {
            throw .writing(
                path: folder.place.parentPath, error, neededBytes: 0, freeBytes: folder.freeBytes)
        }
        stage.withLock { $0 = .kept }
    }

    private func write(
        _ machine: ParkedMachine, _ progress: (UInt64, UInt64) -> Void
    ) throws(ParkError) {
        do throws(WritingFault) {
            var writer = ParkWriter(machine)
            try writer.write(to: folder.folder, progress: progress)
        } catch {
            // First: what is free afterwards is what can be had.
            folder.empty()
            let file = error.fileName.isEmpty ? "" : "/\(error.fileName)"
            throw .writing(
                path: folder.place.temporaryPath + file, error.error,
                neededBytes: error.neededBytes, freeBytes: folder.freeBytes)
        }
        do throws(Errno) { try folder.publish() } catch {
            folder.empty()
            guard error != .exists else { throw .exists(path: path) }
            throw .writing(path: path, error, neededBytes: 0, freeBytes: folder.freeBytes)
        }
    }

    /// Removes what was reserved, unless a machine was committed.
    public func abandon() {
        let isHeld = stage.withLock { stage in
            guard stage == .reserved else { return false }
            stage = .abandoned
            return true
        }
        if isHeld { folder.remove() }
    }
}
