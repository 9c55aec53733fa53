public import Postcopy
internal import StreamWire

/// A machine in a folder on disk: complete, or not there at all.
///
/// Layout: `machine.json`, which describes it; `devices.bin`, the device sections as the source sent
/// them, without the LISTEN before and the PINGs and RUN behind them; `block-0.ram`, `block-1.ram` and
/// so on, the memory of each block in the order of the source's list, as long as what the guest uses,
/// with holes for what is zero.
public struct ParkDirectory: Sendable {
    public let path: String
    private let manifest: ParkManifest
    private let devices: [UInt8]

    /// Reserves a place before a machine is taken: whatever would keep it from being written is found
    /// out now.
    ///
    /// A folder `path` + `.parking` stands there from now on, locked. One that a killed process left is
    /// replaced.
    /// - Parameter bytesNeeded: what the machine takes at most, with all of its memory in use.
    /// - Throws: `ParkError`, with the remedy; then nothing has changed.
    public static func reserve(
        _ path: String, bytesNeeded: UInt64
    ) throws(ParkError) -> ParkReservation {
        let reservation = try ParkReservation(ParkPlace(path))
        try reservation.check(bytesNeeded: bytesNeeded)
        return reservation
    }

    /// Reads a parked machine, but for its memory, and checks all that can be known of it.
    /// - Throws: `ParkError`, which names the file that is missing, half-written, changed or foreign.
    public init(opening path: String) throws(ParkError) {
        // A path ends for the kernel where a string of C does.
        guard !path.isEmpty, !path.utf8.contains(0) else { throw .badName(path: path) }
        self.path = path
        let folder: Folder
        do throws(Errno) { folder = try Folder(path) } catch {
            throw .reading(path: path, error)
        }
        let manifestPath = "\(path)/\(ParkManifest.fileName)"
        let text: [UInt8]
        do throws(ParkError) {
            text = try Self.read(
                ParkManifest.fileName, in: folder, path, lengths: 1...UInt64(ParkManifest.bytesMax))
        } catch {
            guard error == .reading(path: manifestPath, .noEntry) else { throw error }
            throw .noManifest(path: path)
        }
        manifest = try ParkManifest(decoding: text, path: manifestPath)
        let length = UInt64(manifest.devicesBytes)
        devices = try Self.read(
            ParkManifest.devicesFileName, in: folder, path, lengths: length...length)
        let checksum = Checksum.crc32(of: devices.span)
        guard checksum == manifest.devicesChecksum else {
            throw .damaged(
                path: "\(path)/\(ParkManifest.devicesFileName)",
                reason: "its CRC-32 is \(Hexadecimal.text(checksum)), expected "
                    + Hexadecimal.text(manifest.devicesChecksum))
        }
        for (index, block) in manifest.blocks.enumerated() {
            let length = block.usedBytes
            _ = try Self.open(
                ParkManifest.fileName(ofBlock: index), in: folder, path, lengths: length...length)
        }
    }

    public var machineType: String { manifest.machineType }

    /// Where the machine came from.
    public var origin: String { manifest.origin }

    /// The length of each block, by its name.
    public var blocks: [(name: String, usedBytes: UInt64, hostPage: PageSize)] {
        manifest.blocks.map { ($0.name, $0.usedBytes, $0.hostPage) }
    }

    /// The file of each block's memory, in the same order.
    public var blockPaths: [String] {
        manifest.blocks.indices.map { "\(path)/\(ParkManifest.fileName(ofBlock: $0))" }
    }

    /// The machine, its memory read from the files where it is sent: it costs this host no memory, and
    /// the files must stay as they are meanwhile. Nothing is written to them.
    /// - Throws: `ParkError.ram` for a file that went away or changed since.
    public func makeMachine() throws(ParkError) -> ParkedMachine {
        var memory: [GuestRAM] = []
        for (index, block) in manifest.blocks.enumerated() {
            let geometry = try ParkedMachine.geometry(of: block)
            do throws(RAMError) {
                memory.append(
                    try GuestRAM(
                        geometry, contentOf: "\(path)/\(ParkManifest.fileName(ofBlock: index))"))
            } catch { throw .ram(error) }
        }
        return try ParkedMachine(
            machineType: manifest.machineType,
            streamIdentity: StreamIdentity(
                configuration: manifest.configuration, ramSection: manifest.ramSectionID),
            origin: manifest.origin, memory: memory,
            devices: devices)
    }

    /// Opens a file of one of these lengths.
    private static func open(
        _ name: String, in folder: borrowing Folder, _ path: String, lengths: ClosedRange<UInt64>
    ) throws(ParkError) -> DiskFile {
        let path = "\(path)/\(name)"
        let file: DiskFile
        do throws(Errno) { file = try folder.open(file: name) } catch {
            throw .reading(path: path, error)
        }
        let found: UInt64?
        do throws(Errno) { found = try file.lengthBytes() } catch {
            throw .reading(path: path, error)
        }
        guard let found else { throw .damaged(path: path, reason: "it is no regular file") }
        guard lengths.contains(found) else {
            let (least, most) = (lengths.lowerBound, lengths.upperBound)
            let expected = least == most ? "\(least)" : "\(least) to \(most)"
            throw .damaged(path: path, reason: "it has \(found) bytes, expected \(expected)")
        }
        return file
    }

    private static func read(
        _ name: String, in folder: borrowing Folder, _ path: String, lengths: ClosedRange<UInt64>
    ) throws(ParkError) -> [UInt8] {
        let file = try open(name, in: folder, path, lengths: lengths)
        do throws(Errno) {
            let length = try file.lengthBytes() ?? 0
            return try file.read(lengthBytes: Int(min(length, lengths.upperBound)))
        } catch { throw .reading(path: "\(path)/\(name)", error) }
    }
}
