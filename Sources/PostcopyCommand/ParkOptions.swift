internal import ArgumentParser
internal import Parking
internal import Postcopy

/// How `receive` takes a machine that QEMU configured, and where it goes.
struct ParkOptions: ParsableArguments {
    @Flag(
        name: .customLong("from-qemu"),
        help: "Takes the machine of a QEMU, which says what memory it has, and parks it.")
    var fromQEMU = false

    @Option(help: "Where the machine is kept: a folder that does not exist yet.")
    var park: String?

    @Flag(help: "Throws the machine away once it is here, to measure how it comes.")
    var throwAway = false

    @Option(
        parsing: .unconditional,
        help: "Threads that read its memory as it arrives, each page once and in random order.")
    var touchThreads = 0

    /// - Throws: `Refusal` for options that do not go together.
    func check(_ memory: MemoryOptions, heals: Bool) throws {
        guard fromQEMU else {
            guard park == nil, !throwAway, touchThreads == 0 else {
                throw Refusal.usage(
                    "--park, --throw-away and --touch-threads are about a machine: add --from-qemu")
            }
            return
        }
        guard (park == nil) == throwAway else {
            throw Refusal.usage(
                park == nil
                    ? "--from-qemu needs a place for the machine: give --park DIR, or --throw-away"
                    : "--park and --throw-away cannot both be: choose one")
        }
        guard (0...PageReaders.countMax).contains(touchThreads) else {
            throw Refusal.usage(
                "--touch-threads \(touchThreads) is too many or too few: give 0 to "
                    + "\(PageReaders.countMax)")
        }
        guard memory.isDefault, !heals else {
            throw Refusal.usage(
                "--from-qemu takes the memory that the machine has: leave out --memory, --backing, "
                    + "--page-size, --lock-memory and --heal")
        }
    }
}

extension MemoryOptions {
    /// Whether nothing was said of the memory.
    var isDefault: Bool {
        memory == ByteCount(256 << 20) && backing == .anonymous && pageSize == nil && !lockMemory
    }
}
