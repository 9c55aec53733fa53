internal import Foundation
internal import PlainJSON
internal import Postcopy

/// Reads what a migration's `--json` wrote, and says of anything else what it is.
enum ReportReader {
    /// A report of a thousand vCPUs with everything recorded stays below a megabyte; a text of this
    /// length is no report, and reading it would take some gigabytes.
    static let bytesMax = 64 << 20

    /// The report in a file, or on standard input with '-'.
    /// - Throws: `Refusal` in one line that names the file, what is wrong and the remedy.
    static func read(path: String) throws -> ReportDocument {
        let file = InputFile(path: path, kind: "a report")
        return try document(try file.bytes { _ in bytesMax }, name: file.name)
    }

    /// - Parameter name: what the bytes are called in refusals.
    static func document(_ data: Data, name: String) throws(Refusal) -> ReportDocument {
        func refusal(_ reason: String) -> Refusal { .environment("\(name) \(reason)") }
        guard let first = data.first(where: { !isSpace($0) }) else {
            throw refusal("is empty: give a report that 'postcopy run --json FILE' wrote")
        }
        guard first == UInt8(ascii: "{") else {
            throw refusal("is no JSON report: give one that 'postcopy run --json FILE' wrote")
        }
        do {
            let head = try Head(decoding: data)
            if let schema = head.schema, schema > ReportDocument.currentSchema {
                throw refusal(
                    "has schema \(schema), which is newer than this program reads "
                        + "(\(ReportDocument.currentSchema)): take the postcopy that wrote it")
            }
            guard let schema = head.schema, schema >= 1, head.command != nil, head.ram != nil else {
                throw refusal(
                    "is JSON, and no report of a migration: give one that 'postcopy run', 'send', "
                        + "'receive' or 'relay' wrote with --json")
            }
            return try ReportDocument(decoding: data)
        } catch let refusal as Refusal {
            throw refusal
        } catch let DecodingError.dataCorrupted(context) {
            throw refusal(
                fault(data) ?? "holds a value that no report has\(place(context.codingPath))")
        } catch let error as DecodingError {
            throw refusal("cannot be read: \(reason(error))")
        } catch {
            throw refusal("cannot be read: \(PlainReason.of(error))")
        }
    }

    /// What tells a report from other JSON, whatever its schema is.
    private struct Head: JSONReport {
        /// Whatever stands there, as long as something does.
        struct Something: Codable {}

        let schema: Int?
        let command: String?
        let ram: Something?
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        [UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t")]
            .contains(byte)
    }

    /// Where the text ceases to be JSON, which `JSONDecoder` does not say; `nil` when it does not.
    private static func fault(_ data: Data) -> String? {
        do throws(JSONFault) {
            _ = try JSONValue(parsing: Array(data))
            return nil
        } catch {
            return error.isTruncated
                ? "ends in the middle, after \(data.count) bytes: it was cut; take the whole report"
                : "is no JSON at \(error): take the report as it was written"
        }
    }

    private static func reason(_ error: DecodingError) -> String {
        switch error {
        case .keyNotFound(let key, let context):
            return "it lacks\(place(context.codingPath + [key]))"
        case .typeMismatch(_, let context), .valueNotFound(_, let context),
            .dataCorrupted(let context):
            return "there is a value of another kind\(place(context.codingPath))"
        @unknown default: return "\(error)"
        }
    }

    /// " 'machine' 'cpus'", as the report has these names.
    private static func place(_ path: [any CodingKey]) -> String {
        path.map { key in
            key.intValue.map { " [\($0)]" } ?? " '\(KebabCase.kebab(key.stringValue))'"
        }.joined()
    }
}
