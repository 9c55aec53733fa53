import PostcopyRuntime
import TestSupport
import Testing

@Suite("A guest's devices as sections")
struct DeviceStateTests {
    private static let devices = [
        DeviceState(name: "cpu", instance: 0, version: 3, bytes: [1, 2, 3]),
        DeviceState(name: "cpu", instance: 7, bytes: []),
        DeviceState(
            name: String(repeating: "n", count: 255), bytes: [UInt8](repeating: 9, count: 999)),
    ]

    @Test("they come back as they were, in their order")
    func roundTrip() throws {
        let sections = DeviceState.sections(of: Self.devices)
        #expect(try DeviceState.devices(in: sections) == Self.devices)
        #expect(try DeviceState.devices(in: []) == [])
    }

    @Test("a part of them is refused with a place, unless it ends between two")
    func prefixes() throws {
        let sections = DeviceState.sections(of: Self.devices)
        var whole = 0
        for length in 0..<sections.count {
            do {
                let devices = try DeviceState.devices(in: Array(sections.prefix(length)))
                #expect(devices == Array(Self.devices.prefix(devices.count)))
                whole += 1
            } catch {
                #expect(error.description.hasPrefix("device state: "))
            }
        }
        #expect(whole == 3)
    }

    @Test("whatever the bytes, they are read or refused", arguments: 0..<200 as Range<UInt64>)
    func damaged(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var sections = DeviceState.sections(of: Self.devices)
        for _ in 0...random.below(4) {
            sections[random.below(sections.count)] = UInt8(truncatingIfNeeded: random.next())
        }
        let devices = try? DeviceState.devices(in: sections)
        if let devices { #expect(devices.count <= sections.count / 20) }
    }
}
