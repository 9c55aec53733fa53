import FlightRecorder
import LinuxKernel
import MigrationCore
import PageModel
import Testing

@testable import PostcopyRuntime

@Suite("the account of a destination's waits")
struct WaitAccountTests {
    private let ram: GuestRAM

    init() throws {
        let block = try BlockGeometry(
            name: "waits.ram", lengthBytes: 8 * HostMemory.pageSize.bytes,
            hostPage: HostMemory.pageSize)
        ram = try GuestRAM(block, backing: .anonymous)
    }

    private func account(halts: VCPUHalts? = nil) -> WaitAccount {
        WaitAccount(
            blocks: [ram], options: MigrationOptions(), counters: WaitCounters(), halts: halts)
    }

    private func page(_ index: Int) -> HostPage {
        HostPage(block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: index))
    }

    private func event(_ thread: Int32) -> FaultEvent {
        FaultEvent(address: ram.address, thread: thread)
    }

    @Test("a vCPU that halted before anybody knew the vCPUs is halted")
    func earlyHalt() {
        let halts = VCPUHalts(vcpuCount: 2)
        var account = account(halts: halts)
        halts.note(vcpu: 1, isHalted: true, at: 50)
        account.publish()
        account.noteVCPUs([11, 12], at: 40)
        _ = account.begin(event(11), page(0), readAt: 100)
        account.close(page(0), at: 300, .background)
        #expect(account.finish().blocktime.overlappedNanoseconds == 200)
    }

    @Test("waits count as overlapped from when the vCPUs were named, not from when that was read")
    func named() {
        var account = account()
        account.noteVCPUs([11], at: 90)
        _ = account.begin(event(11), page(0), readAt: 100)
        account.close(page(0), at: 150, .background)
        #expect(account.finish().blocktime.overlappedNanoseconds == 50)
    }

    @Test("a request keeps when it was first written, and says that it was written again")
    func askedAgain() {
        var account = account()
        account.noteVCPUs([11, 12], at: 0)
        account.awaitWrite(account.begin(event(11), page(0), readAt: 10))
        account.noteWrite(at: 20)
        // On a link that is gone before it takes the request.
        account.awaitWrite(account.begin(event(12), page(1), readAt: 30))
        account.forgetUnwritten()
        account.noteWrite(at: 40)
        account.awaitWriteOfAll()
        account.noteWrite(at: 50)
        account.close(page(0), at: 60, .urgent(firstByteAt: 55))
        account.close(page(1), at: 70, .urgent(firstByteAt: 65))
        let records = account.finish().records
        #expect(records.map(\.requested) == [20, 50])
        #expect(records.map { $0.flags.contains(.requestedAgain) } == [true, false])
    }

    @Test("only who found its page there is said to have")
    func early() {
        var account = account()
        account.noteVCPUs([11, 12], at: 0)
        account.awaitWrite(account.begin(event(11), page(0), readAt: 10))
        account.noteWrite(at: 15)
        _ = account.begin(event(12), page(0), readAt: 20)
        account.close(page(0), at: 30, .early)
        let records = account.finish().records.sorted { $0.thread < $1.thread }
        #expect(records.map { $0.flags.contains(.present) } == [false, true])
    }
}
