import LinuxKernel
import PageModel
import PostcopyRuntime
import Synchronization

/// A guest that has asked its disk for reads and writes, and moves before the disk has looked: the ring, the
/// requests and their buffers are all in memory that the destination misses.
///
/// Source: "Split Virtqueues" and "Block Device" of the virtio specification, version 1.1.
final class DiskGuest: Guest {
    let machineType = "disk-1"
    let memory: [GuestRAM]
    let faultOrigin = FaultOrigin.userAndKernel
    private let loading = Mutex<@Sendable () throws -> Void>({})
    private let resuming = Mutex<@Sendable () -> Void>({})

    static let ringSize: UInt32 = 128
    static let requestCount = 32
    static let dataBytes = 12 << 10
    static let sectorBytes = 512
    /// Requests with an odd number write.
    static func isWrite(_ request: Int) -> Bool { request % 2 == 1 }
    /// Where on the disk a request begins.
    static func diskOffset(_ request: Int) -> Int { request * 2 * dataBytes }

    // Each in pages of its own, so that each is missed by itself.
    static let descriptors: UInt64 = 0x1_0000
    static let available: UInt64 = 0x2_0000
    static let used: UInt64 = 0x3_0000
    static func header(_ request: Int) -> UInt64 { 0x10_0000 + UInt64(request) << 12 }
    static func status(_ request: Int) -> UInt64 { 0x20_0000 + UInt64(request) << 12 }
    /// In the middle of a page, so that it takes parts of four.
    static func data(_ request: Int) -> UInt64 { 0x40_0800 + UInt64(request) << 16 }

    init(_ memory: GuestRAM) { self.memory = [memory] }

    private var ram: GuestRAM { memory[0] }

    /// What a write's buffer holds, and a read's before the disk has answered.
    static func content(_ request: Int) -> [UInt8] {
        (0..<dataBytes).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ request &* 31 &+ $0 >> 8) }
    }

    func fill() {
        // The rest of memory, so that there is something to wait for.
        for page in 0..<ram.geometry.targetPageCount {
            ram.storeWord(UInt64(page) | 0xD15C << 48, at: UInt64(page) << 12 + 2048)
        }
        var (available, descriptors) = ([UInt8](), [UInt8]())
        available.append(little: UInt16(0), UInt16(Self.requestCount))
        for request in 0..<Self.requestCount {
            let first = UInt16(request * 3)
            available.append(little: first)
            let (next, deviceWrites): (UInt16, UInt16) = (1, 2)
            descriptors.append(
                descriptor: address(Self.header(request)), length: 16, flags: next, next: first + 1)
            descriptors.append(
                descriptor: address(Self.data(request)), length: UInt32(Self.dataBytes),
                flags: Self.isWrite(request) ? next : next | deviceWrites, next: first + 2)
            descriptors.append(
                descriptor: address(Self.status(request)), length: 1, flags: deviceWrites, next: 0)
            fill(request)
        }
        put(available, Self.available)
        put(descriptors, Self.descriptors)
        put([0, 0, 0, 0], Self.used)
    }

    private func fill(_ request: Int) {
        var header: [UInt8] = []
        header.append(little: UInt32(Self.isWrite(request) ? 1 : 0), UInt32(0))
        header.append(little: UInt64(Self.diskOffset(request) / Self.sectorBytes))
        put(header, Self.header(request))
        put(Self.content(request), Self.data(request))
        put([0xFF], Self.status(request))
    }

    private func address(_ offset: UInt64) -> UInt64 { ram.guestPhysicalAddress + offset }

    private func put(_ bytes: [UInt8], _ offset: UInt64) {
        ram.write(bytes.span, at: RAMOffset(rawValue: offset))
    }

    /// Reads memory as a vCPU does.
    func bytes(at offset: UInt64, count: Int) -> [UInt8] {
        (0..<UInt64(count)).map { index in
            let place = offset + index
            return UInt8(truncatingIfNeeded: ram.loadWord(at: place & ~7) >> (8 * (place & 7)))
        }
    }

    /// Requests that the disk has answered.
    var answered: Int {
        let index = bytes(at: Self.used + 2, count: 2)
        return Int(index[0]) | Int(index[1]) << 8
    }

    func whenLoaded(_ action: @escaping @Sendable () throws -> Void) {
        loading.withLock { $0 = action }
    }

    func whenResumed(_ action: @escaping @Sendable () -> Void) {
        resuming.withLock { $0 = action }
    }

    var vcpuThreads: [Int32] { [] }
    func pause() {}
    func resume() { resuming.withLock { $0 }() }
    func saveDevices() -> [UInt8] { [1, 2, 3] }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        do { try loading.withLock { $0 }() } catch { throw GuestError("\(error)") }
    }
}

extension [UInt8] {
    fileprivate mutating func append<Number: FixedWidthInteger>(little numbers: Number...) {
        for number in numbers {
            for index in 0..<number.bitWidth / 8 {
                append(UInt8(truncatingIfNeeded: number >> (8 * index)))
            }
        }
    }

    fileprivate mutating func append(
        descriptor address: UInt64, length: UInt32, flags: UInt16, next: UInt16
    ) {
        append(little: address)
        append(little: length)
        append(little: flags, next)
    }
}
