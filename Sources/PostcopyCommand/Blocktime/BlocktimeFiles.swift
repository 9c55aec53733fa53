internal import Foundation
internal import Postcopy

/// The runs that files hold: reports and fault logs, told apart by what they begin with.
struct BlocktimeFiles {
    /// Rings that are full take some 6 MiB, a million waits with what the source did 34 MiB; what a few
    /// million records come to in memory is a host's to spare.
    private static let logBytesMax = 128 << 20
    /// Enough that a system call costs less than what it brings.
    private static let pieceBytes = 1 << 20

    private enum Content {
        case report(ReportDocument)
        case log(FaultLog)
    }

    /// - Throws: `Refusal` for the first file that is none, in one line that names it.
    static func runs(_ paths: [String]) throws -> [BlocktimeRun] {
        var logs: [(path: String, log: FaultLog)] = []
        var places: [(path: String, name: String, report: ReportDocument?)] = []
        for (path, name) in zip(paths, names(of: paths)) {
            switch try content(of: path) {
            case .report(let report): places.append((path, name, report))
            case .log(let log):
                logs.append((path, log))
                if log.destination != nil { places.append((path, name, nil)) }
            }
        }
        var joined = try joined(logs).makeIterator()
        return try places.compactMap { path, name, report in
            if let report { return try BlocktimeRun(report, name: name, path: path) }
            return joined.next().map { BlocktimeRun($0, name: name) }
        }
    }

    /// The logs with a destination; the only one of a source belongs to the only one without.
    private static func joined(_ logs: [(path: String, log: FaultLog)]) throws -> [FaultLog] {
        let sources = logs.filter { $0.log.destination == nil }
        var runs = logs.map(\.log).filter { $0.destination != nil }
        guard let source = sources.first else { return runs }
        let lonely = runs.indices.filter { runs[$0].source == nil }
        guard sources.count == 1, lonely.count == 1, let place = lonely.first else {
            throw Refusal.environment(
                "\(source.path) holds the source's side alone, where nobody waits: give it with the "
                    + "one fault log of its destination")
        }
        runs[place] = runs[place].joined(with: source.log)
        return runs
    }

    private static func content(of path: String) throws -> Content {
        let data = try bytes(of: path)
        guard FaultLogCodec.begins(data) else {
            let first = data.first { !UnicodeScalar($0).properties.isWhitespace }
            guard first == nil || first == UInt8(ascii: "{") else {
                throw Refusal.environment(
                    "\(path) is neither a report nor a fault log: give what --json or --fault-log "
                        + "wrote")
            }
            return .report(try ReportReader.document(data, name: path))
        }
        do throws(FaultLogError) {
            return .log(try FaultLogCodec.decode([UInt8](data)))
        } catch {
            throw Refusal.environment("\(path): \(error)")
        }
    }

    private static func bytes(of path: String) throws -> Data {
        func refusal(_ reason: String) -> Refusal {
            .environment("\(path) cannot be read: \(reason)")
        }
        guard !path.isEmpty else { throw Refusal.usage("a file's name is empty: give a file") }
        let place = URL(fileURLWithPath: path).resolvingSymlinksInPath()
        let attributes = try? FileManager.default.attributesOfItem(atPath: place.path)
        if attributes?[.type] as? FileAttributeType == .typeDirectory {
            throw refusal("it is a folder; give a report or a fault log in it")
        }
        do {
            let handle = try FileHandle(forReadingFrom: place)
            var data = Data()
            while let piece = try handle.read(upToCount: pieceBytes), !piece.isEmpty {
                data += piece
                let most = FaultLogCodec.begins(data) ? logBytesMax : ReportReader.bytesMax
                guard data.count <= most else {
                    throw refusal("it is over \(Readable.bytes(UInt64(most))), and none of ours")
                }
            }
            return data
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw refusal(PlainReason.of(error))
        }
    }

    /// Each file's name, as short as tells them apart.
    private static func names(of paths: [String]) -> [String] {
        let places = paths.map { URL(fileURLWithPath: $0) }
        let files = places.map(\.lastPathComponent)
        let shorter = places.map { $0.deletingPathExtension().lastPathComponent }
        return [shorter, files].first { Set($0).count == paths.count } ?? paths
    }
}
