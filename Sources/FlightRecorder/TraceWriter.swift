/// Events of Chrome's trace format, handed on in pieces of some ten KiB.
///
/// Source: "Trace Event Format" of the Chromium project, which Perfetto reads.
struct TraceWriter<Failure: Error> {
    private var text: [UInt8] = []
    private let base: UInt64
    private let sink: ([UInt8]) throws(Failure) -> Void
    private var isFirst = true

    /// Enough that handing it on costs nothing beside making it.
    private static var pieceBytes: Int { 64 << 10 }

    /// - Parameter base: the instant that is 0 in the trace.
    init(base: UInt64, sink: @escaping ([UInt8]) throws(Failure) -> Void) throws(Failure) {
        self.base = base
        self.sink = sink
        append("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")
    }

    /// A value beside a slice.
    enum Argument {
        case number(UInt64)
        case text(String)
    }

    /// A slice of a track.
    mutating func slice(
        _ name: String, of track: TraceTrack, from: UInt64, to: UInt64,
        _ arguments: [(String, Argument)] = []
    ) throws(Failure) {
        begin("X", name, track)
        append(",\"ts\":")
        microseconds(from - min(from, base))
        append(",\"dur\":")
        microseconds(to - min(to, from))
        append(arguments)
        try end()
    }

    /// A value that holds from an instant on.
    mutating func counter(
        _ name: String, of track: TraceTrack, at instant: UInt64, _ value: Int
    ) throws(Failure) {
        begin("C", name, track)
        append(",\"ts\":")
        microseconds(instant - min(instant, base))
        append([("threads", .number(UInt64(max(0, value))))])
        try end()
    }

    /// What a process or a track is called.
    mutating func name(_ name: String, of track: TraceTrack, _ kind: String) throws(Failure) {
        begin("M", kind, track)
        append([("name", .text(name))])
        try end()
    }

    /// The last piece.
    mutating func finish() throws(Failure) {
        append("\n]}\n")
        try handOn()
    }
}

extension TraceWriter {
    private mutating func append(_ more: String) { text.append(contentsOf: more.utf8) }

    private mutating func begin(_ kind: String, _ name: String, _ track: TraceTrack) {
        append(isFirst ? "\n" : ",\n")
        isFirst = false
        append("{\"ph\":\"\(kind)\",\"pid\":\(track.process),\"tid\":\(track.thread),\"name\":")
        quote(name)
    }

    private mutating func end() throws(Failure) {
        append("}")
        if text.count >= Self.pieceBytes { try handOn() }
    }

    private mutating func handOn() throws(Failure) {
        try sink(text)
        text.removeAll(keepingCapacity: true)
    }

    private mutating func append(_ arguments: [(String, Argument)]) {
        guard !arguments.isEmpty else { return }
        append(",\"args\":{")
        for (index, (name, value)) in arguments.enumerated() {
            if index > 0 { append(",") }
            quote(name)
            append(":")
            switch value {
            case .number(let number): append("\(number)")
            case .text(let text): quote(text)
            }
        }
        append("}")
    }

    /// Microseconds with three digits behind the point: whole nanoseconds.
    private mutating func microseconds(_ nanoseconds: UInt64) {
        let digits = "\(nanoseconds % 1_000)"
        append("\(nanoseconds / 1_000).\(String(repeating: "0", count: 3 - digits.count))\(digits)")
    }

    /// A string of JSON; what a page might take for markup is escaped as well.
    private mutating func quote(_ value: String) {
        text.append(UInt8(ascii: "\""))
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                text.append(UInt8(ascii: "\\"))
                text.append(byte)
            case 0..<0x20, UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "&"), 0x7F:
                let digits = String(byte, radix: 16)
                append("\\u\(String(repeating: "0", count: 4 - digits.count))\(digits)")
            default: text.append(byte)
            }
        }
        text.append(UInt8(ascii: "\""))
    }
}

/// Where a slice is shown.
struct TraceTrack: Hashable {
    let process: Int
    let thread: Int

    static let destination = 1
    static let source = 2
}
