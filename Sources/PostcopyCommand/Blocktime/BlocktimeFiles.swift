internal import Foundation
internal import Postcopy

/// The runs that files hold: reports and fault logs, told apart by what they begin with.
struct BlocktimeFiles {
    /// Rings that are full take some 6 MiB, a million waits with what the source did 34 MiB; what a few
    /// million records come to in memory is a host's to spare.
    private static let logBytesMax = 128 << 20

    private enum Content {
        case report(ReportDocument)
        case log(FaultLog)
    }

    /// - Throws: `Refusal` for the first file that is none, in one line that names it.
    static func runs(_ paths: [String]) throws -> [BlocktimeRun] {
        guard paths.count(where: { $0 == "-" }) <= 1 else {
            throw Refusal.usage("standard input can be one file only: give the others by name")
        }
        var logs: [(path: String, log: FaultLog)] = []
        var places: [(path: String, name: String, report: ReportDocument?)] = []
        for (file, name) in zip(paths, names(of: paths)) {
            let path = InputFile.name(of: file)
            switch try content(of: file) {
            case .report(let report): places.append((path, name, report))
            case .log(let log):
                logs.append((path, log))
                if log.destination != nil { places.append((path, name, nil)) }
            }
        }
        var joined = try FaultLogPairs.joined(logs).makeIterator()
        return try places.compactMap { path, name, report in
            if let report { return try BlocktimeRun(report, name: name, path: path) }
            return joined.next().map { BlocktimeRun($0, name: name) }
        }
    }

    private static func content(of path: String) throws -> Content {
        let file = InputFile(path: path, kind: "a report or a fault log")
        let data = try file.bytes { FaultLogCodec.begins($0) ? logBytesMax : ReportReader.bytesMax }
        guard FaultLogCodec.begins(data) else {
            let first = data.first { !UnicodeScalar($0).properties.isWhitespace }
            guard first == nil || first == UInt8(ascii: "{") else {
                throw Refusal.environment(
                    "\(file.name) is neither a report nor a fault log: give what --json or --fault-log "
                        + "wrote")
            }
            return .report(try ReportReader.document(data, name: file.name))
        }
        do throws(FaultLogError) {
            return .log(try FaultLogCodec.decode([UInt8](data)))
        } catch {
            throw Refusal.environment("\(file.name): \(error)")
        }
    }

    /// Each file's name, as short as tells them apart.
    private static func names(of paths: [String]) -> [String] {
        let places = paths.map { URL(fileURLWithPath: InputFile.name(of: $0)) }
        let files = places.map(\.lastPathComponent)
        let shorter = places.map { $0.deletingPathExtension().lastPathComponent }
        return [shorter, files].first { Set($0).count == paths.count } ?? paths
    }
}
