internal import PageModel
internal import Synchronization

/// What of a RAM block the guest uses, and what became of it since somebody last asked.
struct UsedLength {
    var bytes: UInt64
    /// The shortest that it was since `takeLengthChange`.
    var lowestBytes: UInt64
    /// Whether a migration counts on it.
    var isFrozen = false

    init(bytes: UInt64) {
        self.bytes = bytes
        lowestBytes = bytes
    }
}

/// The used length of a block, and the part of it that is new since the last question.
package struct LengthChange: Equatable, Sendable {
    package let usedBytes: UInt64
    /// From here to `usedBytes` is memory that the block gained.
    package let gainedFromBytes: UInt64
}

extension GuestRAM {
    /// The bytes that the guest uses, whole host pages: what a migration moves. Beyond them the block
    /// is mapped up to `geometry.lengthBytes` and reads as zeros.
    ///
    /// Source: `used_length` and `max_length` of QEMU's `RAMBlock`.
    public var usedBytes: UInt64 { length.withLock { $0.bytes } }

    /// Gives a resizable block another used length. What it loses is given back at once, and reads as
    /// zeros when the block gains it again. The guest must not touch what is lost.
    ///
    /// Threads: any, also while a source sends the block. Refused is it from the moment a source has
    /// stopped the guest until its migration has ended, and at a destination from the moment its
    /// memory is emptied for a source until every page is placed. A KVM slot of which a `KVMDirtyLog`
    /// reads the log must keep its length: give KVM the block's maximum.
    ///
    /// Source: `qemu_ram_resize` (`system/physmem.c`); a QEMU source cancels its migration instead.
    public func resize(to usedBytes: UInt64) throws(RAMError) {
        try setLength(usedBytes, evenFrozen: false)
    }

    /// Takes over the length that a source named.
    package func adoptLength(_ usedBytes: UInt64) throws(RAMError) {
        try setLength(usedBytes, evenFrozen: true)
    }

    /// Refuses `resize` from here on.
    package func freezeLength() { length.withLock { $0.isFrozen = true } }

    package func thawLength() { length.withLock { $0.isFrozen = false } }

    /// What became of the length since the last call.
    package func takeLengthChange() -> LengthChange {
        length.withLock { length in
            defer { length.lowestBytes = length.bytes }
            return LengthChange(usedBytes: length.bytes, gainedFromBytes: length.lowestBytes)
        }
    }

    private func setLength(_ usedBytes: UInt64, evenFrozen: Bool) throws(RAMError) {
        guard isResizable else { throw .notResizable(block: geometry.name) }
        try Self.check(usedBytes, of: geometry)
        try length.withLock { length throws(RAMError) in
            guard evenFrozen || !length.isFrozen else { throw .frozen(block: geometry.name) }
            if usedBytes < length.bytes {
                let lost = length.bytes - usedBytes
                // Under the lock: whoever gains this memory again must find it dropped.
                do throws(Errno) {
                    try drop(from: RAMOffset(rawValue: usedBytes), lengthBytes: lost)
                } catch {
                    throw .dropping(block: geometry.name, lengthBytes: lost, error)
                }
            }
            length.bytes = usedBytes
            length.lowestBytes = min(length.lowestBytes, usedBytes)
        }
    }

    /// Whether a block can have a used length.
    static func check(_ usedBytes: UInt64, of geometry: BlockGeometry) throws(RAMError) {
        guard usedBytes > 0, geometry.hostPage.divides(usedBytes) else {
            throw .notWholePages(
                block: geometry.name, usedBytes: usedBytes, page: geometry.hostPage)
        }
        guard usedBytes <= geometry.lengthBytes else {
            throw .beyondMaximum(
                block: geometry.name, usedBytes: usedBytes, maximumBytes: geometry.lengthBytes)
        }
    }
}
