import Glibc
import LinuxKernel
import Parking
import Postcopy
import StreamWire
import Testing

@Suite(
    "A disk that does not take it",
    .enabled(if: geteuid() == 0, "needs root, to mount a small disk"))
struct FullDiskTests {
    /// Leaves as many bytes as that.
    private func fill(_ folder: TestFolder, leaving bytes: UInt64) throws {
        let path = folder.path + "/ballast"
        let raw = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        try #require(raw >= 0)
        defer { close(raw) }
        var status = statvfs()
        try #require(unsafe fstatvfs(raw, &status) == 0)
        let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
        try #require(posix_fallocate(raw, 0, off_t(free - bytes)) == 0)
    }

    @Test("a full disk is told with what lacks, and the machine is not lost")
    func full() throws {
        let folder = try TestFolder(tmpfs: "size=8m")
        let machine = try SampleMachine.make()
        #expect(SampleMachine.filledBytes < 4 << 20)
        let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 4 << 20)
        // From nothing at all up to all but a page.
        for left in [0, 1, 10, SampleMachine.filledBytes >> 12 - 1] {
            try fill(folder, leaving: left << 12)
            let error = refusal { () throws(ParkError) in try reservation.commit(machine) }
            guard case .writing(let path, .noSpace, let needed, let free)? = error else {
                Issue.record("\(left) pages: \(String(describing: error))")
                continue
            }
            #expect(path.hasPrefix("\(folder.temporary)/"))
            #expect(needed > SampleMachine.filledBytes)
            #expect(needed <= SampleMachine.totalBytes + 2 << 20)
            #expect(free == left << 12, "what was half-written is gone")
            #expect("\(error!)".contains("No space left on device; \(needed) bytes are needed"))
            #expect("\(error!)".contains("free some space and try again"))
            #expect(folder.names == ["ballast", "guest.parking"])
            #expect(SampleMachine.differences(machine) == [])
        }
        try #require(unsafe unlink(folder.path + "/ballast") == 0)
        try reservation.commit(machine)
        let again = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(SampleMachine.differences(again) == [])
        #expect(folder.names == ["guest"])
    }

    @Test("a machine that one disk does not take can go to another one")
    func elsewhere() throws {
        let small = try TestFolder(tmpfs: "size=64k")
        let machine = try SampleMachine.make()
        let reservation = try ParkDirectory.reserve(small.place, bytesNeeded: 0)
        #expect(refusal { () throws(ParkError) in try reservation.commit(machine) } != nil)
        let large = try TestFolder()
        try park(machine, at: large.place)
        let again = try ParkDirectory(opening: large.place).makeMachine()
        #expect(SampleMachine.differences(again) == [])
    }

    @Test("a limit on the size of files is one more way to fail")
    func fileSize() async {
        await #expect(processExitsWith: .success) {
            let folder = try TestFolder()
            let machine = try SampleMachine.make()
            let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 0)
            signal(SIGXFSZ, SIG_IGN)
            var limit = rlimit()
            try #require(unsafe getrlimit(Int32(RLIMIT_FSIZE.rawValue), &limit) == 0)
            limit.rlim_cur = 1 << 20
            try #require(unsafe setrlimit(Int32(RLIMIT_FSIZE.rawValue), &limit) == 0)
            let error = refusal { () throws(ParkError) in try reservation.commit(machine) }
            guard case .writing(_, let reason, _, _)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(reason == Errno(rawValue: EFBIG))
            #expect("\(error!)".contains("mend that and try again"))
            limit.rlim_cur = limit.rlim_max
            try #require(unsafe setrlimit(Int32(RLIMIT_FSIZE.rawValue), &limit) == 0)
            try reservation.commit(machine)
            let again = try ParkDirectory(opening: folder.place).makeMachine()
            #expect(SampleMachine.differences(again) == [])
        }
    }

    @Test("a disk that became read-only is told, and mended")
    func readOnly() throws {
        let folder = try TestFolder(tmpfs: "size=32m")
        let machine = try SampleMachine.make()
        let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 0)
        try folder.remountReadOnly()
        let error = refusal { () throws(ParkError) in try reservation.commit(machine) }
        guard case .writing("\(folder.temporary)/block-0.ram", let reason, _, _)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason == Errno(rawValue: EROFS))
        // MS_REMOUNT alone: writable again.
        try #require(unsafe mount("none", folder.path, "tmpfs", 32, nil) == 0)
        try reservation.commit(machine)
        #expect(folder.names == ["guest"])
    }
}
