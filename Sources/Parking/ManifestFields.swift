internal import PlainJSON

/// The fields of one object of a manifest, and where it stands, for refusals.
struct ManifestFields {
    private let values: [String: JSONValue]
    private let path: String
    /// For example `blocks[2]`; empty at the top.
    private let place: String

    init(_ value: JSONValue, path: String, place: String = "") {
        if case .object(let values) = value { self.values = values } else { values = [:] }
        self.path = path
        self.place = place
    }

    /// A refusal that names a field, or the object when there is none to name.
    func fault(_ key: String?, _ reason: String) -> ParkError {
        let names = [place, key ?? ""].filter { !$0.isEmpty }.joined(separator: ".")
        return .damaged(
            path: path, reason: "'\(names)' \(key == nil ? "is refused: " : "")\(reason)")
    }

    func text(_ key: String, bytesMax: Int = .max) throws(ParkError) -> String {
        guard case .text(let text) = try value(key) else { throw fault(key, "is no string") }
        guard text.utf8.count <= bytesMax else {
            throw fault(key, "is longer than \(bytesMax) bytes")
        }
        return text
    }

    func number(
        _ key: String, in range: ClosedRange<UInt64> = 0 ... .max
    ) throws(ParkError) -> UInt64 {
        guard case .number(let number) = try value(key) else {
            throw fault(key, "is no whole number")
        }
        guard range.contains(number) else {
            throw fault(
                key, "is \(number), expected \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    func bytes(_ key: String, bytesMax: Int) throws(ParkError) -> [UInt8] {
        let text = try text(key, bytesMax: 2 * bytesMax)
        guard let bytes = Hexadecimal.bytes(text) else {
            throw fault(key, "is not bytes in hexadecimal")
        }
        return bytes
    }

    func checksum(_ key: String) throws(ParkError) -> UInt32 {
        let bytes = try bytes(key, bytesMax: 4)
        guard bytes.count == 4 else { throw fault(key, "is not eight hexadecimal digits") }
        return bytes.reduce(0) { $0 << 8 | UInt32($1) }
    }

    func object(_ key: String) throws(ParkError) -> ManifestFields {
        let value = try value(key)
        guard case .object = value else { throw fault(key, "is no object") }
        return ManifestFields(value, path: path, place: key)
    }

    /// The objects of a list, each with its place.
    func list(_ key: String) throws(ParkError) -> [ManifestFields] {
        guard case .list(let values) = try value(key) else { throw fault(key, "is no list") }
        return values.enumerated().map { index, value in
            ManifestFields(value, path: path, place: "\(key)[\(index)]")
        }
    }

    /// A field that can have one value only.
    func expect(_ key: String, _ expected: String) throws(ParkError) {
        guard try text(key) == expected else { throw fault(key, "is not '\(expected)'") }
    }

    private func value(_ key: String) throws(ParkError) -> JSONValue {
        guard let value = values[key] else { throw fault(key, "is missing") }
        return value
    }
}

/// Bytes as text, two digits each.
enum Hexadecimal {
    static func text(_ bytes: [UInt8]) -> String {
        var text = ""
        text.reserveCapacity(2 * bytes.count)
        for byte in bytes {
            text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return text
    }

    /// The number as eight digits.
    static func text(_ number: UInt32) -> String {
        text([24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) })
    }

    /// `nil` for what is no such text.
    static func bytes(_ text: String) -> [UInt8]? {
        let digits = text.utf8.map { Character(UnicodeScalar($0)).hexDigitValue }
        guard digits.count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = digits[index], let low = digits[index + 1] else { return nil }
            bytes.append(UInt8(high << 4 | low))
        }
        return bytes
    }
}
