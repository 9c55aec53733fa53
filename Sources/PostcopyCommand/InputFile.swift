internal import Foundation
internal import Glibc
internal import Postcopy

/// A file that is read whole, or standard input.
struct InputFile {
    /// '-' for standard input.
    let path: String
    /// What it should be: "a report".
    let kind: String

    /// Enough that a system call costs less than what it brings.
    private static let pieceBytes = 1 << 20

    /// What it is called in refusals and titles.
    static func name(of path: String) -> String { path == "-" ? "standard input" : path }

    var name: String { Self.name(of: path) }

    /// - Parameter bytesMax: how long one may be that begins so.
    /// - Throws: `Refusal` in one line that names the file, what is wrong and the remedy.
    func bytes(max bytesMax: (Data) -> Int) throws -> Data {
        guard !path.isEmpty else {
            throw Refusal.usage("the name of \(kind) is empty: give a file")
        }
        guard path != "-" || isatty(STDIN_FILENO) == 0 else {
            throw Refusal.usage("standard input is a terminal: pipe \(kind) into it")
        }
        do {
            let place = URL(fileURLWithPath: path).resolvingSymlinksInPath()
            let attributes = try? FileManager.default.attributesOfItem(atPath: place.path)
            guard path == "-" || attributes?[.type] as? FileAttributeType != .typeDirectory else {
                throw refusal("it is a folder; give \(kind) in it")
            }
            let handle = try path == "-" ? .standardInput : FileHandle(forReadingFrom: place)
            var data = Data()
            while let piece = try handle.read(upToCount: Self.pieceBytes), !piece.isEmpty {
                data += piece
                let most = bytesMax(data)
                guard data.count <= most else {
                    throw refusal(
                        "it is over \(Readable.bytes(UInt64(most))), and not \(kind)")
                }
            }
            return data
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw refusal(PlainReason.of(error))
        }
    }

    private func refusal(_ reason: String) -> Refusal {
        .environment("\(name) cannot be read: \(reason)")
    }
}
