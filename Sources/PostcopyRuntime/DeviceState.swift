internal import StreamWire

/// The state of one device of a guest as it moves: a section of the stream (`SECTION_FULL`).
///
/// For guests that have several devices, or whose state may have another layout one day; others may
/// hand any bytes over. `postcopy inspect` names what was written like this.
public struct DeviceState: Equatable, Sendable {
    /// 1 to 255 bytes.
    public let name: String
    /// Tells devices of one name apart.
    public let instance: UInt32
    /// Of the layout of `bytes`.
    public let version: UInt32
    /// What the device makes of it is its own matter.
    public let bytes: [UInt8]

    /// The state of a device.
    /// - Precondition: `name` is 1 to 255 bytes long.
    public init(name: String, instance: UInt32 = 0, version: UInt32 = 1, bytes: [UInt8]) {
        precondition((1...255).contains(name.utf8.count), "a device's name is 1 to 255 bytes long")
        self.name = name
        self.instance = instance
        self.version = version
        self.bytes = bytes
    }

    /// Section ids are the writer's choice; that of memory is a small one, as QEMU's are.
    private static let firstSection: UInt32 = 0x1_0000

    /// What `Guest.saveDevices` answers.
    public static func sections(of devices: [DeviceState]) -> [UInt8] {
        var sections: [UInt8] = []
        for (index, device) in devices.enumerated() {
            DeviceSection(
                id: firstSection + UInt32(index), name: device.name, instance: device.instance,
                version: device.version, state: device.bytes
            ).encode(to: &sections)
        }
        return sections
    }

    /// The devices in what `Guest.loadDevices` is given, in the order in which they were written. Never
    /// traps, whatever the bytes.
    /// - Throws: what is wrong with them, and where.
    public static func devices(in sections: [UInt8]) throws(GuestError) -> [DeviceState] {
        var devices: [DeviceState] = []
        var start = 0
        while start < sections.count {
            do throws(WireError) {
                let (section, next) = try DeviceSection.decode(
                    sections.span, in: start..<sections.count, at: 0)
                devices.append(
                    DeviceState(
                        name: section.name, instance: section.instance, version: section.version,
                        bytes: section.state))
                start = next
            } catch {
                throw GuestError("device state: \(error)")
            }
        }
        return devices
    }
}
