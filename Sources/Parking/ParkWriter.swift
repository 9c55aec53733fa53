internal import Postcopy

/// A file that could not be written.
struct WritingFault: Error {
    /// In the folder that is written; empty for the folder itself.
    let fileName: String
    let error: Errno
    /// What all files take at most.
    let neededBytes: UInt64
}

/// Writes the files of one machine into an empty folder, the manifest last: a folder that has one is
/// complete.
struct ParkWriter {
    private let machine: ParkedMachine
    private let devices: [UInt8]
    /// Bytes of memory that are behind us, and those of them that took space.
    private var doneBytes: UInt64 = 0
    private var writtenBytes: UInt64 = 0
    /// Since the disk was last waited for.
    private var unsyncedBytes: UInt64 = 0

    /// What is looked through before progress is told: some milliseconds.
    private static let windowBytes: UInt64 = 8 << 20
    /// What may wait in the page cache: progress tells of bytes on the disk, one that fails or fills
    /// shows early, and other processes keep their cache.
    private static let unsyncedBytesMax: UInt64 = 256 << 20

    init(_ machine: ParkedMachine) {
        self.machine = machine
        devices = machine.saveDevices()
    }

    mutating func write(
        to folder: borrowing Folder, progress: (UInt64, UInt64) -> Void
    ) throws(WritingFault) {
        for (index, ram) in machine.memory.enumerated() {
            try write(ram, ParkManifest.fileName(ofBlock: index), in: folder, progress)
        }
        try write(devices, ParkManifest.devicesFileName, in: folder)
        let manifest = ParkManifest(of: machine, devices: devices)
        try write(manifest.encoded(), ParkManifest.fileName, in: folder)
        do throws(Errno) { try folder.sync() } catch { throw fault(error, "") }
    }

    /// Only what is not zero is written; the rest of the file is a hole.
    private mutating func write(
        _ ram: GuestRAM, _ name: String, in folder: borrowing Folder,
        _ progress: (UInt64, UInt64) -> Void
    ) throws(WritingFault) {
        do throws(Errno) {
            let file = try folder.make(file: name)
            try file.setLength(ram.usedBytes)
            var runs = NonZeroRuns(of: ram)
            var from: UInt64 = 0
            while from < ram.usedBytes {
                let end = min(from + Self.windowBytes, ram.usedBytes)
                try write(
                    &runs, in: RAMOffset(rawValue: from)..<RAMOffset(rawValue: end), of: ram,
                    to: file)
                doneBytes += end - from
                from = end
                progress(doneBytes, machine.totalBytes)
            }
            try file.sync()
            unsyncedBytes = 0
        } catch { throw fault(error, name) }
    }

    private mutating func write(
        _ runs: inout NonZeroRuns, in window: Range<RAMOffset>, of ram: GuestRAM,
        to file: borrowing DiskFile
    ) throws(Errno) {
        var rest = window
        while let run = try runs.next(in: rest) {
            try file.write(run, of: ram)
            rest = run.upperBound..<window.upperBound
            let bytes = run.upperBound.rawValue - run.lowerBound.rawValue
            writtenBytes += bytes
            unsyncedBytes += bytes
        }
        guard unsyncedBytes >= Self.unsyncedBytesMax else { return }
        try file.sync()
        unsyncedBytes = 0
    }

    private func write(
        _ bytes: [UInt8], _ name: String, in folder: borrowing Folder
    ) throws(WritingFault) {
        do throws(Errno) {
            let file = try folder.make(file: name)
            try file.write(bytes.span, at: 0)
            try file.sync()
        } catch { throw fault(error, name) }
    }

    private func fault(_ error: Errno, _ name: String) -> WritingFault {
        WritingFault(
            fileName: name, error: error,
            neededBytes: writtenBytes + (machine.totalBytes - doneBytes) + UInt64(devices.count)
                + UInt64(ParkManifest.bytesMax))
    }
}
