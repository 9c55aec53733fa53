/// The package: everything the destination needs to run but its memory, in one blob.
///
/// Layout: POSTCOPY_LISTEN; device sections, opaque here; PING 3; perhaps PING 0x42;
/// POSTCOPY_RUN. Nothing says where the devices end, so a package is read from both its ends.
/// Source: `qemu_savevm_send_packaged`, `postcopy_start` (`migration/savevm.c`, `migration.c`).
public enum DevicePackage {
    /// What stands in a package.
    public struct Parts: Equatable, Sendable {
        /// Where the device sections stand in the blob.
        public let devices: Range<Int>
        /// The values of the pings behind them, in order.
        public let pings: [UInt32]
    }

    private static let listen: [UInt8] = [0x08, 0x00, 0x04, 0x00, 0x00]
    private static let run: [UInt8] = [0x08, 0x00, 0x05, 0x00, 0x00]
    private static let ping: [UInt8] = [0x08, 0x00, 0x02, 0x00, 0x04]
    private static let pingBytes = 9

    /// A package without devices and with one ping.
    public static let lengthBytesMin = UInt32(listen.count + pingBytes + run.count)

    /// Finds the parts of a whole package.
    /// - Parameter streamPosition: where the blob begins in its channel, for refusals.
    public static func parse(
        _ blob: Span<UInt8>, at streamPosition: UInt64
    ) throws(WireError) -> Parts {
        guard blob.count >= Int(lengthBytesMin) else {
            throw WireError(
                kind: .packageTooShort(UInt32(blob.count)), position: streamPosition)
        }
        guard blob.equals(listen, at: 0..<listen.count) else {
            throw WireError(kind: .packageWithoutListen, position: streamPosition)
        }
        let runIndex = blob.count - run.count
        guard blob.equals(run, at: runIndex..<blob.count) else {
            throw WireError(
                kind: .packageWithoutRun, position: streamPosition + UInt64(runIndex))
        }
        var pings: [UInt32] = []
        var end = runIndex
        if value(ofPingBefore: end, in: blob) == PingValue.committedToRun.rawValue {
            pings = [PingValue.committedToRun.rawValue]
            end -= pingBytes
        }
        guard value(ofPingBefore: end, in: blob) == PingValue.devicesLoaded.rawValue else {
            let place = max(listen.count, end - pingBytes)
            throw WireError(kind: .packageWithoutPing, position: streamPosition + UInt64(place))
        }
        pings.insert(PingValue.devicesLoaded.rawValue, at: 0)
        return Parts(devices: listen.count..<end - pingBytes, pings: pings)
    }

    /// A package around device sections, with both pings: QEMU before 10.2 answers the second one
    /// like any other.
    public static func encode(devices: [UInt8]) -> [UInt8] {
        var blob = listen
        blob.reserveCapacity(devices.count + listen.count + 2 * pingBytes + run.count)
        blob.append(contentsOf: devices)
        for value in [PingValue.devicesLoaded, .committedToRun] {
            blob.append(contentsOf: ping)
            blob.appendBigEndian(value.rawValue)
        }
        blob.append(contentsOf: run)
        return blob
    }

    /// The value of the ping that ends right before `end`, if one does behind the LISTEN.
    private static func value(ofPingBefore end: Int, in blob: Span<UInt8>) -> UInt32? {
        let start = end - pingBytes
        guard start >= listen.count, blob.equals(ping, at: start..<start + ping.count) else {
            return nil
        }
        return blob.bigEndian32(at: start + ping.count)
    }
}
