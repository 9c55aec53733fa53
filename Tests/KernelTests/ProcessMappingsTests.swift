import Glibc
import LinuxKernel
import PageModel
import Testing

@Suite("ProcessMappings")
struct ProcessMappingsTests {
    private static func block(_ backing: RAMBacking, pages: UInt64 = 8) throws -> GuestRAM {
        try GuestRAM(
            BlockGeometry(
                name: "ram", lengthBytes: pages << 12, hostPage: HostMemory.pageSize),
            backing: backing)
    }

    @Test("every mapping of a block's file is found, and none of another's")
    func found() throws {
        let ram = try Self.block(.memfd)
        let other = try Self.block(.memfd)
        var files = DescriptorParcel()
        try files.add(fileOf: ram)
        guard let file = files.takeFirst() else { return }
        let again = try GuestRAM(ram.geometry, sharing: file)
        let mappings = try ProcessMappings(of: getpid())
        let runs = try mappings.runs(of: ram)
        #expect(
            Set(runs.map(\.address.rawValue)) == [ram.address.rawValue, again.address.rawValue])
        #expect(runs.allSatisfy { $0.lengthBytes == 8 << 12 && $0.offset.rawValue == 0 })
        #expect(try mappings.runs(of: other).map(\.address.rawValue) == [other.address.rawValue])
    }

    @Test("private memory has no file, and a process that is none no list")
    func refused() throws {
        let mappings = try ProcessMappings(of: getpid())
        let own = try Self.block(.anonymous)
        #expect(throws: Errno(rawValue: EBADF)) { try mappings.runs(of: own) }
        #expect(throws: Errno.noEntry) { try ProcessMappings(of: .max) }
    }

    @Test("the process at the other end of a socket is told, unless it is this one")
    func otherProcess() throws {
        let pair = try ConnectedPair(.unix)
        #expect(pair.near.otherProcess == nil)
    }
}
