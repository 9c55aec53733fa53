internal import CPostcopy

/// A struct of C's that begins with its size, as its caller knows it: it may have grown since the
/// caller was built, or be from a later header.
protocol SizedStruct {
    init()
    var size: Int { get set }
    static var structName: String { get }
    /// The size that it had in the first library, with 64-bit words: it never changes.
    static var sizeMin: Int { get }
}

extension SizedStruct {
    /// The largest struct that a caller may have, in bytes: many times those of today.
    private static var sizeMax: Int { 4096 }

    /// Copies a caller's struct; members that the caller does not know are 0, and those that are
    /// not known here must be.
    static func read(_ pointer: UnsafePointer<Self>?) throws(Failure) -> Self {
        guard let pointer = unsafe pointer else { throw .null(structName) }
        let size = try unsafe size(at: pointer)
        let raw = unsafe UnsafeRawPointer(pointer)
        let known = min(size, MemoryLayout<Self>.size)
        for place in known..<max(size, known) {
            guard unsafe raw.load(fromByteOffset: place, as: UInt8.self) == 0 else {
                throw .invalid(
                    "\(structName) has members, from byte \(place) on, that this library does not "
                        + "know; use a newer one, or leave them 0")
            }
        }
        var value = Self()
        unsafe withUnsafeMutableBytes(of: &value) { bytes in
            unsafe bytes.copyMemory(from: UnsafeRawBufferPointer(start: raw, count: known))
        }
        return value
    }

    /// Fills as much of a caller's struct as the caller knows.
    static func write(
        _ value: Self, to pointer: UnsafeMutablePointer<Self>?
    ) throws(Failure) {
        guard let pointer = unsafe pointer else { throw .null(structName) }
        let size = try unsafe size(at: UnsafePointer(pointer))
        var value = value
        value.size = size
        let raw = UnsafeMutableRawPointer(pointer)
        let known = min(size, MemoryLayout<Self>.size)
        unsafe withUnsafeBytes(of: &value) { bytes in
            unsafe raw.copyMemory(from: bytes.baseAddress!, byteCount: known)
        }
        for place in known..<max(size, known) {
            unsafe raw.storeBytes(of: 0, toByteOffset: place, as: UInt8.self)
        }
    }

    private static func size(at pointer: UnsafePointer<Self>) throws(Failure) -> Int {
        let size = unsafe UnsafeRawPointer(pointer).loadUnaligned(as: Int.self)
        guard (sizeMin...sizeMax).contains(size) else {
            throw .invalid("\(structName).size is \(size); set it to sizeof(\(structName))")
        }
        return size
    }
}

extension postcopy_ram_options: @unsafe SizedStruct {
    static let structName = "postcopy_ram_options"
    static let sizeMin = 72
}
extension postcopy_guest: @unsafe SizedStruct {
    static let structName = "postcopy_guest"
    static let sizeMin = 136
}
extension postcopy_options: @unsafe SizedStruct {
    static let structName = "postcopy_options"
    static let sizeMin = 152
}
extension postcopy_limits: SizedStruct {
    static let structName = "postcopy_limits"
    static let sizeMin = 32
}
extension postcopy_faults_options: @unsafe SizedStruct {
    static let structName = "postcopy_faults_options"
    static let sizeMin = 112
}
extension postcopy_faults_progress: SizedStruct {
    static let structName = "postcopy_faults_progress"
    static let sizeMin = 112
}
extension postcopy_progress: SizedStruct {
    static let structName = "postcopy_progress"
    static let sizeMin = 112
}
extension postcopy_source_report: @unsafe SizedStruct {
    static let structName = "postcopy_source_report"
    static let sizeMin = 152
}
extension postcopy_destination_report: @unsafe SizedStruct {
    static let structName = "postcopy_destination_report"
    static let sizeMin = 176
}
