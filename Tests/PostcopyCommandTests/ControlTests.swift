import Foundation
import Postcopy
import Synchronization
import Testing

@testable import PostcopyCommand
@testable import PostcopyRuntime

/// A side that does what it is told, where it stands.
private final class ToldSide: ControlledSide {
    private struct State {
        var status = MigrationStatus.postcopyPaused
        var calls: [String] = []
        var limits = MigrationLimits()
    }

    private let state = Mutex(State())

    init(_ status: MigrationStatus) { state.withLock { $0.status = status } }

    var calls: [String] { state.withLock { $0.calls } }

    var standing: Standing {
        var recovery = RecoveryProgress()
        recovery.breaks = Array(
            repeating: LinkBreak(
                problem: "cut", heardAtNanoseconds: 1, pausedAtNanoseconds: 2), count: 20)
        recovery.breakCount = 90
        recovery.refusal = "nobody there"
        recovery.waitsForSomebody = true
        return Standing(
            side: .source, status: state.withLock { $0.status }, recovery: recovery,
            owedBytes: 4096)
    }

    func pause() -> Bool { note("pause", when: .postcopyActive, .postcopyPaused) }
    func abandon() -> Bool { note("abandon", when: .postcopyPaused) }
    func recover(at addresses: [ChannelAddress]) throws -> Bool {
        note("recover \(addresses)", when: .postcopyPaused)
    }

    var limits: MigrationLimits? { state.withLock { $0.limits } }
    func setLimits(_ change: LimitChange) throws -> Bool {
        state.withLock { change.apply(to: &$0.limits) }
        return true
    }

    private func note(_ call: String, when possible: MigrationStatus...) -> Bool {
        state.withLock { state in
            state.calls.append(call)
            return possible.contains(state.status)
        }
    }
}

/// A destination that keeps where it was told to listen.
private final class ToldDestination: SteeredDestination {
    private let moves = Mutex<[ChannelAddress?]>([])

    var calls: [ChannelAddress?] { moves.withLock { $0 } }
    var progress: DestinationProgress {
        var progress = DestinationProgress()
        progress.status = .postcopyPaused
        return progress
    }
    func pause() -> Bool { true }
    func abandon() -> Bool { true }
    func recover(on listener: consuming Listener?) -> Bool {
        var address: ChannelAddress?
        if let listener { address = listener.address }
        moves.withLock { $0.append(address) }
        return true
    }
}

private func desk(_ side: ToldSide? = nil) -> ControlDesk {
    let desk = ControlDesk(.init(command: "send", side: .source))
    if let side { desk.put(side) }
    return desk
}

@Suite struct ControlDeskTests {
    @Test("status says where it stands, what is owed, and the newest breaks alone")
    func status() {
        let answer = desk(ToldSide(.postcopyPaused)).answer(Array(#"{"command":"status"}"#.utf8))
        #expect(answer.ok && answer.status == "postcopy-paused" && answer.side == "source")
        #expect(answer.owedBytes == 4096 && answer.waitsForSomebody == true)
        #expect(answer.breaks?.count == ControlAnswer.breaksMax && answer.breakCount == 90)
        #expect(answer.lastRefusal == "nobody there" && answer.pid == getpid())
        #expect(!answer.encodedLine().dropLast().contains(UInt8(ascii: "\n")))
        let text = StatusText(answer).text
        for word in [
            "postcopy-paused", "4.00 KiB", "nobody there", "'postcopy recover'", "82 before",
        ] {
            #expect(text.contains(word), "\(text)")
        }
    }

    @Test("a command is done where it can be, and else refused with a reason")
    func commands() {
        func ask(_ line: String, _ status: MigrationStatus) -> (ControlAnswer, [String]) {
            let side = ToldSide(status)
            return (desk(side).answer(Array(line.utf8)), side.calls)
        }
        let here = #"{"command":"recover","uri":"tcp:a:1","uris":["unix:/b"]}"#
        let (done, calls) = ask(here, .postcopyPaused)
        #expect(done.ok && calls.count == 1 && calls[0].contains("a") && calls[0].contains("/b"))
        let (early, none) = ask(here, .active)
        #expect(!early.ok && early.error?.contains("not paused: it is active") == true)
        #expect(none.isEmpty, "no listener is made for nothing")
        #expect(ask(#"{"command":"pause"}"#, .postcopyActive).0.ok)
        let notYet = ask(#"{"command":"pause"}"#, .active).0.error
        #expect(notYet?.contains("has not moved") == true)
        #expect(ask(#"{"command":"pause"}"#, .postcopyPaused).0.ok, "it holds from now on")
        let late = ask(#"{"command":"pause"}"#, .completed).0.error
        #expect(late?.contains("no link") == true)
        let returning = ask(#"{"command":"pause"}"#, .postcopyRecover).0.error
        #expect(returning?.contains("coming back") == true)
        #expect(ask(#"{"command":"abandon"}"#, .postcopyPaused).0.ok)
        #expect(!ask(#"{"command":"abandon"}"#, .completed).0.ok)
        let typo = ask(#"{"command":"recover","uri":"tpc:a:1"}"#, .postcopyPaused)
        #expect(typo.0.error?.contains("tpc:a:1") == true && typo.1.isEmpty)
        #expect(!ask(#"{"command":"pause","uri":"tcp:a:1"}"#, .postcopyActive).0.ok)
    }

    @Test("limits are changed one by one while it runs, lifted by a word, and told")
    func limits() throws {
        let side = ToldSide(.active)
        func limit(_ limits: String) -> ControlAnswer {
            desk(side).answer(Array("{\"command\":\"limit\",\"limits\":\(limits)}".utf8))
        }
        #expect(limit(#"{"max-bandwidth":200000000,"downtime-limit-ns":5}"#).ok)
        #expect(limit(#"{"max-postcopy-bandwidth":7}"#).limits?.maxBandwidth == 200_000_000)
        let lifted = limit(#"{"max-bandwidth":"none"}"#)
        #expect(lifted.limits?.maxBandwidth == nil && lifted.limits?.maxPostcopyBandwidth == 7)
        #expect(lifted.limits?.downtimeLimitNs == 5)
        let text = StatusText(lifted).text
        #expect(text.contains("unlimited before the move, 7 B/s after it"), "\(text)")
        for wrong in [
            "{}", "null", "7", #"{"max-bandwidth":-1}"#, #"{"max-bandwidth":"fast"}"#,
            #"{"max-bandwidth":1e30}"#, #"{"max-bandwidth":null}"#,
        ] {
            #expect(!limit(wrong).ok, "\(wrong)")
        }
        #expect(!desk(side).answer(Array(#"{"command":"limit"}"#.utf8)).ok)
        #expect(limit(#"{"max-bandwidth":9}"#).limits?.maxPostcopyBandwidth == 7)
        let over = desk(ToldSide(.completed)).answer(
            Array(#"{"command":"limit","limits":{"max-bandwidth":9}}"#.utf8))
        #expect(over.error?.contains("has ended") == true)
        let there = ControlDesk(.init(command: "receive", side: .destination))
        let address = try ChannelAddress(parsing: "tcp:127.0.0.1:4444")
        there.put(ControlledDestination(migration: ToldDestination(), at: address))
        let refused = there.answer(
            Array(#"{"command":"limit","limits":{"max-bandwidth":9}}"#.utf8))
        #expect(refused.error?.contains("are the source's") == true)
    }

    @Test("a destination listens where it did when that is asked for, and says where")
    func listening() throws {
        let first = try ChannelAddress(parsing: "tcp:127.0.0.1:4444")
        let side = ToldDestination()
        let desk = ControlDesk(.init(command: "receive", side: .destination))
        desk.put(ControlledDestination(migration: side, at: first))
        func recover(_ uri: String) -> ControlAnswer {
            desk.answer(Array("{\"command\":\"recover\",\"uri\":\"\(uri)\"}".utf8))
        }
        let same = recover("\(first)")
        #expect(same.ok && same.listensAt == "\(first)" && side.calls == [nil])
        let moved = recover("tcp:127.0.0.1:0")
        let place = try #require(side.calls.last ?? nil)
        #expect(moved.listensAt == "\(place)" && place != first, "\(moved)")
        #expect(moved.listensAt?.hasSuffix(":0") == false)
        #expect(recover("\(place)").ok && side.calls == [nil, place, nil])
        let status = desk.answer(Array(#"{"command":"status"}"#.utf8))
        #expect(StatusText(status).text.contains("\(place)"))
    }

    @Test(
        "what is no request is refused and does nothing",
        arguments: [
            "", "{}", "null", "[]", "status", #"{"command":"stop"}"#, #"{"command":7}"#,
            #"{"command":"status""#, String(repeating: "[", count: 4000), "\u{0}\u{1}\u{2}",
        ])
    func garbage(_ line: String) {
        let side = ToldSide(.postcopyPaused)
        let answer = desk(side).answer(Array(line.utf8))
        #expect(!answer.ok && answer.error?.isEmpty == false)
        #expect(side.calls.isEmpty)
    }

    @Test("before the migration exists there is a status, and nothing to do")
    func early() {
        #expect(desk().answer(Array(#"{"command":"status"}"#.utf8)).ok)
        let refused = desk().answer(Array(#"{"command":"abandon"}"#.utf8))
        #expect(refused.error?.contains("has not begun") == true)
    }

    @Test("a name is quoted so that it can be typed")
    func quoting() {
        #expect(ShellWord.quoted("/tmp/a-b_c.sock") == "/tmp/a-b_c.sock")
        #expect(ShellWord.quoted("a b") == "'a b'")
        #expect(ShellWord.quoted("it's") == "'it'\\''s'")
    }
}

@Suite struct ControlServerTests {
    private static let limitNanoseconds: UInt64 = 20_000_000_000

    private func withServer(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-control-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appendingPathComponent("1.sock").path
        let server = try ControlServer(at: path, desk: desk(ToldSide(.active)))
        defer {
            server.end()
            #expect(!FileManager.default.fileExists(atPath: path))
        }
        try body(path)
    }

    private func connect(_ path: String) throws -> StreamSocket {
        let socket = try StreamSocket.connect(to: .unix(path: path))
        socket.limitWaits(nanoseconds: Self.limitNanoseconds)
        return socket
    }

    /// Lines until `count` are there or the connection ends.
    private func lines(_ count: Int, from socket: borrowing StreamSocket) -> [String] {
        var buffer = ReceiveBuffer(capacityBytes: 1 << 20)
        var text = ""
        do throws(Errno) {
            while text.count(where: { $0 == "\n" }) < count,
                let got = try buffer.fill(from: socket, wait: true), got > 0
            {
                let bytes = buffer.withBytes { span in span.indices.map { span[$0] } }
                text = String(decoding: bytes, as: UTF8.self)
            }
        } catch { return ["\(error)"] }
        return text.split(separator: "\n").map(String.init)
    }

    @Test("only this user may connect, and it answers line by line")
    func answers() throws {
        try withServer { path in
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions]
            #expect((mode as? NSNumber)?.intValue == 0o600)
            let socket = try connect(path)
            try socket.send(Array("{\"command\":\"st".utf8).span)
            try socket.send(Array("atus\"}\n\n  \nnonsense\n{\"command\":\"pause\"}\n".utf8).span)
            let answers = lines(3, from: socket)
            #expect(answers.count == 3)
            #expect(answers.map { $0.contains("\"ok\":true") } == [true, false, false])
        }
    }

    @Test("silent, garbled and endless visitors keep nobody from asking")
    func crowd() throws {
        try withServer { path in
            var crowd: [Visitor] = []
            for index in 0..<3 * ControlServer.clientsMax {
                let visitor = Visitor(try connect(path))
                let bytes: [UInt8] =
                    switch index % 3 {
                    case 0: []
                    case 1: Array(repeating: UInt8(truncatingIfNeeded: index), count: 1000)
                    default:
                        Array(repeating: UInt8(ascii: "a"), count: 3 * ControlServer.lineBytesMax)
                    }
                // Who was sent away finds out by this.
                try? visitor.socket.send(bytes.span)
                crowd.append(visitor)
            }
            for _ in 0..<20 {
                let answer = try ControlCall.ask(ControlRequest(.status), at: path)
                #expect(answer.ok && answer.status == "active")
            }
            withExtendedLifetime(crowd) {}
        }
    }

    private final class Visitor {
        let socket: StreamSocket
        init(_ socket: consuming StreamSocket) { self.socket = socket }
    }

    @Test("a line that is too long is refused, and the connection ends")
    func longLine() throws {
        try withServer { path in
            let socket = try connect(path)
            let line = Array(repeating: UInt8(ascii: "b"), count: ControlServer.lineBytesMax + 1)
            try socket.send(line.span)
            let answers = lines(2, from: socket)
            #expect(answers.first?.contains("4096") == true, "\(answers)")
            #expect(answers.count <= 2)
        }
    }

    @Test("a socket left by a process that is gone is replaced, a living one is not")
    func stale() throws {
        try withServer { path in
            #expect(ControlCall.state(of: path) == .open)
            #expect(throws: ChannelError.self) { _ = try ControlServer(at: path, desk: desk()) }
            let answer = try ControlCall.ask(ControlRequest(.status), at: path)
            #expect(answer.ok)
        }
    }

    @Test("who listens and does not answer is told of; what the dead have left is removed")
    func survey() throws {
        try withServer { path in
            // No process has that number.
            let (dead, alive) = ("\(path).dead", "\(path).alive")
            let listener = try Listener(at: .unix(path: "\(path).gone"))
            for name in [dead, alive] {
                try FileManager.default.linkItem(atPath: "\(path).gone", toPath: name)
            }
            Self.close(listener)
            let silent = try Listener(at: .unix(path: "\(path).silent"))
            let found = ControlTarget.survey(
                [
                    (1, path), (.max, dead), (getpid(), alive), (7, "\(path).silent"),
                    (8, "\(path).none"),
                ], withinNanoseconds: 200_000_000)
            #expect(found.silent == [7] && found.running.map(\.path) == [path])
            #expect(!FileManager.default.fileExists(atPath: dead))
            #expect(FileManager.default.fileExists(atPath: alive))
            withExtendedLifetime(silent) {}
        }
    }

    private static func close(_ listener: consuming Listener) {}

    @Test("a folder that others may enter, or that is no folder, is not used")
    func folders() throws {
        let base = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-place-\(UUID().uuidString.prefix(8))").path
        let files = FileManager.default
        try files.createDirectory(atPath: base, withIntermediateDirectories: false)
        defer { try? files.removeItem(atPath: base) }
        func make(_ name: String, mode: Int) throws -> String {
            let path = "\(base)/\(name)"
            try files.createDirectory(atPath: path, withIntermediateDirectories: false)
            try files.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
            return path
        }
        let open = try make("open", mode: 0o755)
        try files.createSymbolicLink(atPath: "\(base)/link", withDestinationPath: "\(base)/real")
        _ = try make("real", mode: 0o700)
        let (fresh, link) = ("\(base)/fresh", "\(base)/link")
        #expect(throws: Refusal.self) {
            try ControlPlace.ownPath(candidates: [open, link, "\(base)/none/below"])
        }
        let path = try ControlPlace.ownPath(candidates: [open, fresh])
        #expect(path == "\(fresh)/\(getpid()).sock")
        #expect(ControlPlace.problem(of: fresh) == nil)
        #expect(try ControlPlace.ownPath(candidates: [fresh]) == path, "it is there by now")
        _ = files.createFile(atPath: path, contents: nil)
        #expect(ControlPlace.sockets(candidates: [open, fresh]).map(\.path) == [path])
        let long = "\(base)/" + String(repeating: "l", count: 100)
        #expect(throws: Refusal.self) { try ControlPlace.ownPath(candidates: [long]) }
    }

    @Test("the folder is the user's own, and root's where root runs it")
    func candidates() {
        let user = ControlPlace.candidates(environment: ["XDG_RUNTIME_DIR": "/run/user/7"], user: 7)
        #expect(user == ["/tmp/postcopy-7", "/run/user/7/postcopy"], "logout removes the second")
        let elsewhere = ControlPlace.candidates(environment: ["XDG_RUNTIME_DIR": "/x"], user: 7)
        #expect(elsewhere == ["/tmp/postcopy-7", "/x/postcopy", "/run/user/7/postcopy"])
        let chosen = ["XDG_RUNTIME_DIR": "/x", ControlPlace.folderVariable: "/y"]
        #expect(ControlPlace.candidates(environment: chosen, user: 7) == ["/y"])
        #expect(
            ControlPlace.candidates(environment: ["XDG_RUNTIME_DIR": "here"], user: 0) == [
                "/run/postcopy", "/tmp/postcopy-0", "/run/user/0/postcopy",
            ])
    }
}
