import Glibc
import LinuxKernel
import Parking
import Synchronization
import TestSupport
import Testing

/// A process that is killed while it parks leaves a whole machine or none, and nothing in the way of the
/// next one.
@Suite("Killed while parking", .serialized)
struct CrashTests {
    /// After a kill: absent or whole. Then the place can be used.
    private func expectAbsentOrWhole(_ folder: TestFolder, note: Comment) throws -> Bool {
        let isThere = isThere(folder.place)
        if isThere {
            #expect(folder.names == ["guest"], note)
        } else {
            #expect(Set(folder.names).isSubset(of: ["guest.parking"]), note)
            try park(SampleMachine.make(), at: folder.place)
        }
        let machine = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(SampleMachine.differences(machine) == [], note)
        #expect(folder.names == ["guest"], note)
        return isThere
    }

    @Test(
        "in the middle of memory", arguments: [0, 1, 8 << 20, 17 << 20, SampleMachine.totalBytes])
    func memory(point: UInt64) async throws {
        let folder = try TestFolder()
        let place = folder.place
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [place = place as String, point = point as UInt64] in
            let reservation = try ParkDirectory.reserve(place, bytesNeeded: 0)
            if point == 0 { kill(getpid(), SIGKILL) }
            try reservation.commit(SampleMachine.make()) { done, _ in
                if done >= point { kill(getpid(), SIGKILL) }
            }
        }
        #expect(folder.names == ["guest.parking"])
        #expect(try !expectAbsentOrWhole(folder, note: "at \(point)"))
    }

    /// The system calls that change a disk, each of which is the last one once.
    enum LastCall: String, CaseIterable, Sendable {
        case ftruncate
        case pwrite64
        case fsync
        case unlinkat
        case renameat2

        #if arch(x86_64)
            var number: UInt32 {
                switch self {
                case .ftruncate: 77
                case .pwrite64: 18
                case .fsync: 74
                case .unlinkat: 263
                case .renameat2: 316
                }
            }
        #else
            var number: UInt32 {
                switch self {
                case .ftruncate: 46
                case .pwrite64: 68
                case .fsync: 82
                case .unlinkat: 35
                case .renameat2: 276
                }
            }
        #endif
    }

    @Test("in a system call", arguments: LastCall.allCases, [false, true])
    func call(call: LastCall, afterMemory: Bool) async throws {
        let folder = try TestFolder()
        let (place, number) = (folder.place, call.number)
        // A leftover is removed first, by unlinkat.
        try #require(unsafe mkdir(folder.temporary, 0o700) == 0)
        try write("half", to: folder.temporary + "/block-0.ram")
        // With all of memory written nothing is made longer or removed any more.
        let isReached = !afterMemory || ![.ftruncate, .unlinkat].contains(call)
        await #expect(processExitsWith: isReached ? .signal(SIGSYS) : .success) {
            [place = place as String, number = number as UInt32, afterMemory = afterMemory as Bool]
            in
            let machine = try SampleMachine.make()
            if !afterMemory { try killThisThread(inCall: number) }
            let reservation = try ParkDirectory.reserve(place, bytesNeeded: 0)
            try reservation.commit(machine) { done, total in
                if afterMemory, done == total { try? killThisThread(inCall: number) }
            }
        }
        let note: Comment = "\(call.rawValue), after memory \(afterMemory)"
        #expect(try expectAbsentOrWhole(folder, note: note) == !isReached, note)
    }

    /// What is waited for before the kill, by name.
    @Test(
        "as soon as a file is there",
        arguments: [
            "guest.parking/block-9.ram", "guest.parking/devices.bin", "guest.parking/machine.json",
            "guest",
        ])
    func file(name: String) async throws {
        for _ in 0..<2 {
            let folder = try TestFolder()
            let (place, trigger) = (folder.place, "\(folder.path)/\(name)")
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [place = place as String, trigger = trigger as String] in
                let thread = try JoinableThread(name: "killer") {
                    // A file that is there for a moment only may be missed.
                    while !isThere(trigger), !isThere(place) {}
                    kill(getpid(), SIGKILL)
                }
                try park(SampleMachine.make(), at: place)
                // Killed at the latest here.
                thread.join()
            }
            let isWhole = try expectAbsentOrWhole(folder, note: "at \(name)")
            #expect(isWhole || name != "guest")
        }
    }

    @Test("at any moment", arguments: 0..<12 as Range<UInt64>)
    func anyMoment(seed: UInt64) async throws {
        let folder = try TestFolder()
        let place = folder.place
        await #expect(processExitsWith: .signal(SIGKILL)) {
            [place = place as String, seed = seed as UInt64] in
            var random = SeededRandom(seed: seed)
            let delay = UInt64(random.below(60_000_000))
            let machine = try SampleMachine.make()
            let (never, started) = (try EventFlag(), try EventFlag())
            let thread = try JoinableThread(name: "killer") {
                started.wait()
                _ = never.wait(timeoutNanoseconds: delay)
                kill(getpid(), SIGKILL)
            }
            started.raise()
            try park(machine, at: place)
            thread.join()
        }
        _ = try expectAbsentOrWhole(folder, note: "seed \(seed)")
    }
}

/// Lets the kernel end this process, by SIGSYS, where this thread makes a system call of that number:
/// before the call does anything.
private func killThisThread(inCall number: UInt32) throws {
    typealias Control = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32
    guard let symbol = unsafe dlsym(nil, "prctl") else { throw Errno.noSystemCall }
    let control = unsafe unsafeBitCast(symbol, to: Control.self)
    // struct sock_filter {u16 code; u8 jt; u8 jf; u32 k}: loads the number, compares, returns
    // SECCOMP_RET_KILL_PROCESS or SECCOMP_RET_ALLOW (linux/filter.h, linux/seccomp.h).
    let program: [UInt64] = [
        0x20, 0x0100_0015 | UInt64(number) << 32, 0x06 | 0x8000_0000 << 32,
        0x06 | 0x7fff_0000 << 32,
    ]
    try unsafe program.withUnsafeBufferPointer { filter in
        // struct sock_fprog {u16 length; filter}
        let header = [UInt(filter.count), UInt(bitPattern: filter.baseAddress)]
        try unsafe header.withUnsafeBufferPointer { header in
            // PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
            guard control(38, 1, 0, 0, 0) == 0,
                control(22, 2, UInt(bitPattern: header.baseAddress), 0, 0) == 0
            else { throw Errno(rawValue: errno) }
        }
    }
}
