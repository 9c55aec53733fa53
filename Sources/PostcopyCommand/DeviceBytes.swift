internal import Foundation
internal import Postcopy
internal import StreamWire

/// The devices of a stream while they come: in a package, or behind the end of `ram`.
struct DeviceBytes {
    /// The bytes of a package, and where its command and its first byte stand.
    private var package: [UInt8] = []
    private var commandPlace: UInt64 = 0
    private var packagePlace: UInt64?
    private(set) var tail: DeviceTail?
    private var tailPlace: UInt64 = 0

    var isInPackage: Bool { packagePlace != nil }

    // MARK: The package

    mutating func beginPackage(commandAt place: UInt64, bytesAt packagePlace: UInt64) {
        commandPlace = place
        self.packagePlace = packagePlace
        package = []
    }

    mutating func takePackage(_ bytes: [UInt8], _ range: Range<Int>) {
        package += bytes[range]
    }

    /// The package as far as it came, and what is wrong with one that came whole.
    mutating func endPackage(isWhole: Bool) -> (item: InspectedItem, problem: WireError?) {
        let place = packagePlace ?? 0
        packagePlace = nil
        var item = InspectedItem(
            offset: commandPlace, bytes: place - commandPlace + UInt64(package.count),
            kind: .package)
        var devices = min(Self.listenBytes, package.count)..<package.count
        var problem: WireError?
        if isWhole {
            do throws(WireError) {
                let parts = try DevicePackage.parse(package.span, at: place)
                devices = parts.devices
                item.pings = parts.pings
            } catch {
                problem = error
            }
        }
        item.outline(package, devices, at: place)
        package = []
        return (item, problem)
    }

    /// LISTEN, as a command of five bytes.
    private static let listenBytes = 5

    // MARK: The tail

    mutating func takeTail(
        _ bytes: [UInt8], _ range: Range<Int>, at place: UInt64
    ) throws(WireError) {
        if tail == nil { tailPlace = place }
        // Taken out while it grows: two owners would copy it.
        var tail = self.tail.take() ?? DeviceTail(at: place)
        defer { self.tail = tail }
        try tail.append(bytes.span, range)
    }

    /// What stands in a tail that was closed, and what is wrong with it.
    func endTail() -> (items: [InspectedItem], problem: WireError?) {
        guard let tail else { return ([], nil) }
        var parts = DeviceTail.Parts(devices: 0..<tail.bytes.count, description: nil)
        var problem: WireError?
        do throws(WireError) { parts = try tail.ended() } catch { problem = error }
        var devices = InspectedItem(
            offset: tailPlace, bytes: UInt64(parts.devices.count), kind: .devices)
        devices.outline(tail.bytes, parts.devices, at: tailPlace)
        guard problem == nil else { return ([devices], problem) }
        let end = tailPlace + UInt64(parts.devices.count)
        var items = [devices, InspectedItem(offset: end, bytes: 1, kind: .endOfStream)]
        if let range = parts.description {
            items.append(
                InspectedItem(
                    offset: end + 1, bytes: UInt64(tail.bytes.count) - (end + 1 - tailPlace),
                    kind: .description, value: Self.deviceCount(Array(tail.bytes[range]))))
        }
        return (items, nil)
    }

    /// How many devices the description names; `nil` when it cannot be read.
    private static func deviceCount(_ json: [UInt8]) -> UInt64? {
        struct Description: Decodable {
            struct Device: Decodable {}
            let devices: [Device]
        }
        let description = try? JSONDecoder().decode(Description.self, from: Data(json))
        return description.map { UInt64($0.devices.count) }
    }
}

extension InspectedItem {
    /// Adds the devices at `range` of `bytes`, which begin at byte `place` of the channel.
    fileprivate mutating func outline(_ bytes: [UInt8], _ range: Range<Int>, at place: UInt64) {
        let outline = DeviceOutline(of: bytes.span, in: range)
        devices = outline.sections.map { section in
            InspectedDevice(
                offset: place + UInt64(section.range.lowerBound),
                bytes: UInt64(section.range.count), name: section.name,
                instance: section.instance, version: section.version, section: section.id)
        }
        if !outline.rest.isEmpty { unresolvedOffset = place + UInt64(outline.rest.lowerBound) }
    }
}
