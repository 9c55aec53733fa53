extension WorkloadState {
    static let magic: UInt64 = 0x5043_574C
    static let version: UInt64 = 1
    static let headerBytes = 50
    static let generatorBytes = 32
    static let checksumBytes = 8

    /// The bytes that `init(decoding:)` takes.
    public func encoded() -> [UInt8] {
        var writer = StateWriter()
        writer.put(Self.magic, bytes: 4)
        writer.put(Self.version, bytes: 2)
        writer.put(specification.seed, bytes: 8)
        writer.put(UInt64(specification.vcpuCount), bytes: 2)
        writer.put(UInt64(specification.pattern.code), bytes: 1)
        writer.put(UInt64(specification.fill.code), bytes: 1)
        writer.put(specification.writeFraction.bitPattern, bytes: 8)
        writer.put(specification.accessesPerSecond, bytes: 8)
        writer.put(specification.hotSetBytes, bytes: 8)
        writer.put(specification.memoryBytes, bytes: 8)
        for generator in generators {
            writer.put(generator.stepsDone, bytes: 8)
            writer.put(generator.random, bytes: 8)
            writer.put(generator.cursor, bytes: 8)
            writer.put(generator.readChecksum, bytes: 8)
        }
        writer.put(Self.checksum(of: writer.bytes.span, count: writer.bytes.count), bytes: 8)
        return writer.bytes
    }

    /// Takes `bytes` as a whole: none may be missing and none may follow.
    ///
    /// Never traps, whatever the bytes. Allocates nothing before the checksum has been found right.
    /// - Throws: `WorkloadError.state...` with the place, or `.option` for a specification that no
    ///   workload can have.
    public init(decoding bytes: Span<UInt8>) throws(WorkloadError) {
        var reader = StateReader()
        try reader.need(Self.headerBytes + Self.generatorBytes + Self.checksumBytes, of: bytes)
        try reader.take("magic", bytes: 4, of: bytes) { $0 == Self.magic }
        try reader.take("version", bytes: 2, of: bytes) { $0 == Self.version }
        let seed = try reader.take("seed", bytes: 8, of: bytes)
        let vcpuCount = try reader.take("vCPU count", bytes: 2, of: bytes) {
            (1...UInt64(WorkloadSpecification.vcpuCountMax)).contains($0)
        }
        try Self.checkWhole(bytes, vcpuCount: Int(vcpuCount), reader)
        let patternCode = try reader.take("pattern", bytes: 1, of: bytes) {
            AccessPattern(code: UInt8($0)) != nil
        }
        let fillCode = try reader.take("fill", bytes: 1, of: bytes) {
            InitialFill(code: UInt8($0)) != nil
        }
        let writeFraction = try reader.take("write fraction", bytes: 8, of: bytes)
        let rate = try reader.take("rate", bytes: 8, of: bytes)
        let hotSetBytes = try reader.take("hot set", bytes: 8, of: bytes)
        let memoryBytes = try reader.take("memory", bytes: 8, of: bytes)
        let specification = try WorkloadSpecification(
            seed: seed, vcpuCount: Int(vcpuCount),
            pattern: AccessPattern(code: UInt8(patternCode)) ?? .idle,
            writeFraction: Double(bitPattern: writeFraction), hotSetBytes: hotSetBytes,
            accessesPerSecond: rate, fill: InitialFill(code: UInt8(fillCode)) ?? .zero,
            memoryBytes: memoryBytes)
        var generators: [GeneratorState] = []
        for vcpu in 0..<specification.vcpuCount {
            let pageCount = UInt64(specification.pages(of: vcpu).count)
            generators.append(try Self.generator(&reader, of: bytes, pageCount: pageCount))
        }
        self.init(specification: specification, generators: generators)
    }

    private static func generator(
        _ reader: inout StateReader, of bytes: Span<UInt8>, pageCount: UInt64
    ) throws(WorkloadError) -> GeneratorState {
        let steps = try reader.take("steps done", bytes: 8, of: bytes) { $0 <= stepsDoneMax }
        let random = try reader.take("random", bytes: 8, of: bytes)
        let cursor = try reader.take("cursor", bytes: 8, of: bytes) { $0 < pageCount }
        let readChecksum = try reader.take("read checksum", bytes: 8, of: bytes)
        return GeneratorState(
            stepsDone: steps, random: random, cursor: cursor, readChecksum: readChecksum)
    }

    private static func checkWhole(
        _ bytes: Span<UInt8>, vcpuCount: Int, _ reader: StateReader
    ) throws(WorkloadError) {
        let body = headerBytes + generatorBytes * vcpuCount
        let whole = body + checksumBytes
        try reader.need(whole, of: bytes)
        guard bytes.count == whole else {
            throw .stateTrailingBytes(count: bytes.count - whole, at: whole)
        }
        let expected = checksum(of: bytes, count: body)
        var end = StateReader(cursor: body)
        let found = try end.take("checksum", bytes: 8, of: bytes)
        guard found == expected else {
            throw .stateChecksum(expected: expected, found: found, at: body)
        }
    }

    /// Covers the first `count` bytes; the length is mixed in last.
    static func checksum(of bytes: Span<UInt8>, count: Int) -> UInt64 {
        var sum = magic
        for index in 0..<count {
            sum = Mixing.finish((sum &+ Mixing.golden) ^ UInt64(bytes[index]))
        }
        return Mixing.combine(sum, UInt64(count))
    }
}

/// Appends integers, the most significant byte first.
private struct StateWriter {
    var bytes: [UInt8] = []

    mutating func put(_ value: UInt64, bytes count: Int) {
        for index in (0..<count).reversed() {
            bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index)))
        }
    }
}

/// Takes integers from the front, the most significant byte first.
private struct StateReader {
    var cursor = 0

    func need(_ count: Int, of bytes: Span<UInt8>) throws(WorkloadError) {
        guard bytes.count >= count else {
            throw .stateTruncated(haveBytes: bytes.count, needBytes: count)
        }
    }

    @discardableResult
    mutating func take(
        _ name: String, bytes count: Int, of bytes: Span<UInt8>,
        where isValid: (UInt64) -> Bool = { _ in true }
    ) throws(WorkloadError) -> UInt64 {
        try need(cursor + count, of: bytes)
        var value: UInt64 = 0
        for index in cursor..<cursor + count { value = value << 8 | UInt64(bytes[index]) }
        guard isValid(value) else { throw .stateField(name: name, value: value, at: cursor) }
        cursor += count
        return value
    }
}
