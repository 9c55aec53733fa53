internal import ArgumentParser
internal import Foundation
internal import Postcopy

/// What the pages of a client are.
struct ContentOptions: ParsableArguments {
    @Option(help: "A file that holds the memory, such as Firecracker's mem_file_path.")
    var memoryFile: String?

    @Option(
        help: """
            The folder of a parked machine: its RAM blocks one behind the other, in their order, are \
            what the client's offsets count in.
            """)
    var park: String?

    @Option(
        help: """
            Where to listen for a source that is told to send its machine here: its RAM blocks as \
            with --park, each page as soon as it is needed.
            """,
        transform: ChannelAddress.init(parsing:))
    var from: ChannelAddress?

    @Option(help: "Keeps the device state that a source sends in FILE. (with --from)")
    var devices: String?

    @Flag(help: "Serves a parked machine although it was handed on before. (with --park)")
    var again = false

    /// - Throws: `Refusal` for options that do not go together.
    func check() throws {
        let given = [memoryFile != nil, park != nil, from != nil].count { $0 }
        guard given == 1 else {
            throw Refusal.usage(
                given == 0
                    ? "nothing says where pages come from: give --memory-file, --park or --from"
                    : "--memory-file, --park and --from exclude each other: give one of them")
        }
        guard devices == nil || from != nil else {
            throw Refusal.usage("--devices is about what a source sends: add --from")
        }
        guard !again || park != nil else {
            throw Refusal.usage("--again is about a parked machine: add --park")
        }
        if let devices { try OutputPlace.check(devices, option: "--devices") }
    }
}

/// How clients are served.
struct ServingOptions: ParsableArguments {
    @Flag(
        help: """
            Brings all pages in the background, and lets a client go that has every one of them.
            """)
    var fill = false

    @Option(help: "Brings the pages that FILE lists first: what --record wrote.")
    var prefetch: String?

    @Option(help: "Writes which pages the client needed first, in their order, to FILE.")
    var record: String?

    @Option(
        parsing: .unconditional,
        help: "Threads for each client that read and place pages, 1 to 64.")
    var workers = FaultHandlerOptions().workers

    @Option(
        parsing: .unconditional,
        help: """
            Ends when so many clients were served; 0: only when it is interrupted. One whose hand-off is \
            refused is none.
            """)
    var clients = 1

    /// - Throws: `Refusal` for values that cannot be.
    func handlerOptions() throws -> FaultHandlerOptions {
        guard (1...64).contains(workers) else {
            throw Refusal.usage("--workers \(workers): give 1 to 64")
        }
        guard (0...Self.clientsMax).contains(clients) else {
            throw Refusal.usage("--clients \(clients): give 1 to \(Self.clientsMax), or 0")
        }
        if let record {
            guard clients == 1 else {
                throw Refusal.usage("--record is about one client: leave out --clients")
            }
            try OutputPlace.check(record, option: "--record")
        }
        var options = FaultHandlerOptions()
        options.workers = workers
        // A client must not take what nobody brought for zeros.
        options.missingAtStop = .lost
        return options
    }

    /// The report lists each of them.
    private static let clientsMax = 100_000

    /// - Throws: `Refusal` for a file that is no trace.
    func trace() throws -> FaultTrace? {
        do {
            return try prefetch.map { try FaultTrace(contentsOf: $0) }
        } catch { throw Refusal.environment("--prefetch: \(error)") }
    }

    func save(_ trace: FaultTrace?) throws {
        // Where nobody was served the report says why.
        guard let record, let trace else { return }
        do { try trace.write(to: record) } catch {
            throw Refusal.environment("--record: \(error)")
        }
    }
}

/// A file that is written once all is done.
enum OutputPlace {
    /// - Throws: `Refusal` when it can be seen already that it cannot be written.
    static func check(_ path: String, option: String) throws {
        let place = URL(fileURLWithPath: path)
        let attributes = try? FileManager.default.attributesOfItem(atPath: place.path)
        let isFolder = attributes?[.type] as? FileAttributeType == .typeDirectory
        guard !path.isEmpty, !path.hasSuffix("/"), !isFolder else {
            throw Refusal.environment("\(option) '\(path)' names no file")
        }
        let folder = place.deletingLastPathComponent().path
        guard FileManager.default.isWritableFile(atPath: folder) else {
            throw Refusal.environment(
                "\(option) \(path) cannot be written: there is no folder \(folder), or you may not "
                    + "write to it; give another path")
        }
    }
}
