import Foundation
import Glibc
import Parking
import Postcopy
import Testing

@Suite("A place for a machine")
struct ReservationTests {
    private static let isRoot = geteuid() == 0

    private func reserving(_ path: String, bytesNeeded: UInt64 = 0) -> ParkError? {
        refusal { () throws(ParkError) in
            try ParkDirectory.reserve(path, bytesNeeded: bytesNeeded)
        }
    }

    @Test("it is held until it is dropped, and leaves nothing")
    func dropped() throws {
        let folder = try TestFolder()
        do {
            let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 1)
            #expect(folder.names == ["guest.parking"])
            #expect(reserving(folder.place) == .inUse(path: folder.place))
            #expect(reservation.path == folder.place)
        }
        #expect(folder.names == [])
        let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 1)
        reservation.abandon()
        #expect(folder.names == [])
        reservation.abandon()
        _ = try ParkDirectory.reserve(folder.place, bytesNeeded: 1)
    }

    @Test(
        "paths that name no folder are refused",
        arguments: ["", "/", "//", ".", "..", "a/..", "./", "a\u{0}b"])
    func badNames(path: String) {
        #expect(reserving(path) == .badName(path: path))
    }

    @Test("paths are taken as users write them")
    func paths() throws {
        let folder = try TestFolder()
        for text in ["\(folder.path)/a///", "\(folder.path)//b", "\(folder.path)/./c d\n"] {
            let reservation = try ParkDirectory.reserve(text, bytesNeeded: 0)
            try reservation.commit(SampleMachine.make())
            _ = try ParkDirectory(opening: text)
        }
        #expect(folder.names == ["a", "b", "c d\n"])
        let long = String(repeating: "l", count: 250)
        #expect(reserving("\(folder.path)/\(long)") == .badName(path: "\(folder.path)/\(long)"))
        let longer = String(repeating: "l", count: 256)
        #expect(reserving("\(folder.path)/\(longer)") == .badName(path: "\(folder.path)/\(longer)"))
        #expect(folder.names == ["a", "b", "c d\n"])
    }

    @Test("what is there is not replaced", arguments: ["folder", "file", "link"])
    func exists(kind: String) throws {
        let folder = try TestFolder()
        switch kind {
        case "folder": try #require(unsafe mkdir(folder.place, 0o700) == 0)
        case "file": try write("mine", to: folder.place)
        default: try #require(unsafe symlink("nowhere", folder.place) == 0)
        }
        #expect(reserving(folder.place) == .exists(path: folder.place))
        #expect(folder.names == ["guest"])
    }

    @Test("a parent must be there, and a folder")
    func parents() throws {
        let folder = try TestFolder()
        #expect(
            reserving("\(folder.path)/a/b") == .noParent(path: "\(folder.path)/a", .noEntry))
        try write("mine", to: "\(folder.path)/file")
        #expect(
            reserving("\(folder.path)/file/b")
                == .noParent(path: "\(folder.path)/file", Errno(rawValue: ENOTDIR)))
    }

    @Test("a read-only disk is refused", .enabled(if: isRoot, "needs root, to mount one"))
    func readOnly() throws {
        let folder = try TestFolder(tmpfs: "size=1m")
        try folder.remountReadOnly()
        let error = reserving(folder.place)
        #expect(error == .notWritable(folder: folder.path, Errno(rawValue: EROFS)))
        #expect("\(error!)".contains("Read-only file system; give a folder"))
    }

    @Test(
        "a folder that this user may not write to is refused",
        .enabled(if: isRoot, "needs root, to become another user"))
    func forbidden() async {
        await #expect(processExitsWith: .success) {
            let folder = try TestFolder()
            try #require(unsafe chmod(folder.path, 0o755) == 0)
            // 65534 is nobody.
            try #require(seteuid(65_534) == 0)
            let error = refusal { () throws(ParkError) in
                try ParkDirectory.reserve(folder.place, bytesNeeded: 0)
            }
            try #require(seteuid(0) == 0)
            #expect(error == .notWritable(folder: folder.path, .accessDenied))
        }
    }

    @Test("too little space is told with both numbers, and leaves nothing")
    func space() throws {
        let folder = try TestFolder()
        guard
            case .tooLittleSpace(folder.path, 1 << 60, let free)? = reserving(
                folder.place, bytesNeeded: 1 << 60)
        else {
            Issue.record("\(String(describing: reserving(folder.place, bytesNeeded: 1 << 60)))")
            return
        }
        #expect(free > 0)
        #expect(folder.names == [])
        let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 0)
        #expect(
            refusal { () throws(ParkError) in
                try reservation.check(bytesNeeded: 1 << 60)
            } != nil)
        #expect(folder.names == ["guest.parking"])
        try reservation.commit(SampleMachine.make())
    }

    @Test("what a killed process left is replaced")
    func leftover() throws {
        let folder = try TestFolder()
        try #require(unsafe mkdir(folder.temporary, 0o700) == 0)
        for name in ["block-0.ram", "block-255.ram", "devices.bin", "machine.json"] {
            try write("half", to: "\(folder.temporary)/\(name)")
        }
        try park(SampleMachine.make(), at: folder.place)
        #expect(folder.names == ["guest"])
        let machine = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(SampleMachine.differences(machine) == [])
    }

    @Test(
        "what is somebody else's is neither replaced nor touched",
        arguments: ["mine", "block-256.ram", "block-00.ram", "machine.json~", "folder"])
    func foreign(name: String) throws {
        let folder = try TestFolder()
        try #require(unsafe mkdir(folder.temporary, 0o700) == 0)
        let path = "\(folder.temporary)/\(name)"
        if name == "folder" {
            try #require(unsafe mkdir(path, 0o700) == 0)
        } else {
            try write("mine", to: path)
        }
        try write("half", to: "\(folder.temporary)/block-0.ram")
        #expect(reserving(folder.place) == .foreignEntry(path: path))
        #expect(isThere(path) && isThere(folder.temporary + "/block-0.ram"))
    }

    @Test("a file or a link in the way is not taken for a leftover", arguments: [true, false])
    func inTheWay(isLink: Bool) throws {
        let folder = try TestFolder()
        let elsewhere = folder.path + "/elsewhere"
        try #require(unsafe mkdir(elsewhere, 0o700) == 0)
        try write("mine", to: elsewhere + "/block-0.ram")
        if isLink {
            try #require(unsafe symlink(elsewhere, folder.temporary) == 0)
        } else {
            try write("mine", to: folder.temporary)
        }
        #expect(reserving(folder.place) == .foreignEntry(path: folder.temporary))
        #expect(try readText(elsewhere + "/block-0.ram") == "mine")
        #expect(isThere(folder.temporary))
    }

    @Test("what was made meanwhile is not replaced, and the machine can be tried again")
    func madeMeanwhile() throws {
        let folder = try TestFolder()
        let reservation = try ParkDirectory.reserve(folder.place, bytesNeeded: 0)
        let machine = try SampleMachine.make()
        // An empty folder is what a plain rename would replace.
        try #require(unsafe mkdir(folder.place, 0o700) == 0)
        #expect(
            refusal { () throws(ParkError) in try reservation.commit(machine) }
                == .exists(path: folder.place))
        #expect(folder.names == ["guest", "guest.parking"])
        try #require(unsafe rmdir(folder.place) == 0)
        try reservation.commit(machine)
        #expect(folder.names == ["guest"])
        let again = try ParkDirectory(opening: folder.place).makeMachine()
        #expect(SampleMachine.differences(again) == [])
        // Committed is committed.
        reservation.abandon()
        try reservation.commit(machine)
        #expect(folder.names == ["guest"])
    }

    @Test("two processes do not park in one place")
    func twoProcesses() async throws {
        let folder = try TestFolder()
        let (place, held, stop) = (folder.place, folder.path + "/held", folder.path + "/stop")
        // Other tests may keep every core and every thread of the pool for a while.
        async let other = #expect(processExitsWith: .success) {
            [place = place as String, held = held as String, stop = stop as String] in
            let reservation = try ParkDirectory.reserve(place, bytesNeeded: 0)
            try write("", to: held)
            let deadline = Monotonic.now() + 600_000_000_000
            while !isThere(stop), Monotonic.now() < deadline { await Task.yield() }
            try reservation.commit(SampleMachine.make())
        }
        let deadline = Monotonic.now() + 120_000_000_000
        while !isThere(held), Monotonic.now() < deadline { await Task.yield() }
        #expect(isThere(held))
        #expect(reserving(place) == .inUse(path: place))
        try write("", to: stop)
        _ = await other
        #expect(reserving(place) == .exists(path: place))
        let machine = try ParkDirectory(opening: place).makeMachine()
        #expect(SampleMachine.differences(machine) == [])
    }
}
