import KVMGuest
import Postcopy

/// The devices of one vCPU: a console for text, and a port for addresses of words that are wrong. What
/// was said so far, also half a line, moves with the guest.
struct Ports: Sendable {
    /// The guest says one after each round through its memory.
    private(set) var lines: UInt64 = 0
    private(set) var complaints: UInt64 = 0
    private(set) var lastComplaint: UInt64 = 0
    private var unfinished: [UInt8] = []
    // These two stay where they are.
    private(set) var lastLine = "nothing"
    /// How the guest left otherwise than by a port.
    private(set) var trouble: String?

    /// The guest's lines are shorter.
    private static let lineBytesMax = 80

    init() {}

    /// Takes what the guest writes to a port.
    mutating func take(_ exit: Result<VCPUExit, Errno>) {
        guard case .success(.output(let port, let value)) = exit else {
            return trouble = "a vCPU left its guest: \(exit)"
        }
        if port == GUEST_COMPLAINT { (complaints, lastComplaint) = (complaints + 1, UInt64(value)) }
        guard port == GUEST_CONSOLE else { return }
        let byte = UInt8(truncatingIfNeeded: value)
        if byte != UInt8(ascii: "\n"), unfinished.count < Self.lineBytesMax {
            return unfinished.append(byte)
        }
        lastLine = String(decoding: unfinished, as: UTF8.self)
        (lines, unfinished) = (lines + 1, [])
    }

    /// Three numbers, the most significant byte first, and the unfinished line.
    func encoded() -> [UInt8] {
        [lines, complaints, lastComplaint].flatMap { number in
            (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * $0)) }
        } + unfinished
    }

    /// - Throws: for what `encoded` never gives.
    init(decoding bytes: [UInt8]) throws(GuestError) {
        guard (24...24 + Self.lineBytesMax).contains(bytes.count) else {
            throw GuestError("no ports can be in such a state")
        }
        let numbers = [0, 8, 16].map { bytes[$0..<$0 + 8].reduce(0) { $0 << 8 | UInt64($1) } }
        (lines, complaints, lastComplaint) = (numbers[0], numbers[1], numbers[2])
        unfinished = Array(bytes[24...])
    }
}
