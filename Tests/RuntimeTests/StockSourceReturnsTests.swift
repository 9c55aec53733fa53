import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Testing

extension RuntimeLaws {
    /// A destination and a QEMU source that the test plays, whose link breaks behind the package.
    @Suite("A stock source that comes back")
    struct StockSourceReturnsTests {
        private let script: SourceScript
        private let destination: DestinationUnderTest
        private let first: SocketBox

        init() throws {
            script = SourceScript(guest: try sparseGuest())
            let guest = try PatternGuest(blocks: SourceScript.blocks, vcpuCount: 1)
            guest.expect(only: SourceScript.pagesWithContent)
            var options = testOptions()
            options.recovery.mode = .automatic
            destination = try DestinationUnderTest(guest, options: options)
            first = SocketBox(try StreamSocket.connect(to: destination.address))
            first.send(script.beforePackage + script.package)
            var reader = RawReader()
            _ = reader.readCommit(from: first.socket)
        }

        /// Connects and asks for the bitmaps, as a QEMU does that was told to resume.
        private func comeBack() throws -> SocketBox {
            let geometries = destination.guest.memory.map(\.geometry)
            let main = SocketBox(try StreamSocket.connect(to: destination.address))
            let questions = geometries.indices.map {
                Command.receivedBitmap(block: BlockIndex(rawValue: $0))
            }
            main.send(SourceScript.commands(questions, geometries))
            return main
        }

        /// Resumes and sends what is owed. A QEMU up to 7.2 opens its urgent channel right behind main.
        private func complete(on main: SocketBox) throws -> DestinationReport {
            let urgent = SocketBox(try StreamSocket.connect(to: destination.address))
            var reader = RawReader()
            let bitmaps = reader.read(upTo: Array("high".utf8), from: main.socket)
            #expect(bitmaps.contains(Array("low".utf8)))
            main.send(SourceScript.commands([.postcopyResume], []))
            let answers = reader.read(upTo: [0, 6, 0, 4, 0, 0, 0, 1], from: main.socket)
            #expect(answers.contains([0, 6, 0, 4, 0, 0, 0, 1]))
            main.send(script.postcopy + script.end)
            urgent.send(script.urgent)
            _ = reader.readSuccess(from: main.socket)
            main.socket.shutDown()
            return try #require(destination.report(), "hangs")
        }

        private func expectCompleted(_ report: DestinationReport) {
            #expect(report.status == .completed, "\(report.problem ?? "")")
            #expect(destination.guest.wrongWords() == 0)
            #expect(report.breaks.count == 1)
            #expect(report.breaks.first?.resumedAtNanoseconds != nil)
        }

        private var progress: RecoveryProgress { destination.progress.recovery }

        @Test("a break leaves nothing to happen by itself, and that is said at once")
        func waits() throws {
            first.socket.shutDown()
            #expect(eventually { progress.waitsForSomebody })
            expectCompleted(try complete(on: try comeBack()))
        }

        @Test("before the break was noticed it is kept waiting")
        func early() throws {
            let main = try comeBack()
            // Who comes later is looked at later.
            let stranger = SocketBox(try StreamSocket.connect(to: destination.address))
            stranger.send(script.head)
            #expect(eventually { destination.progress.otherMigrations == 1 })
            #expect(destination.progress.status == .postcopyActive)
            first.socket.shutDown()
            expectCompleted(try complete(on: main))
        }

        @Test("while the migration is held by hand it is kept waiting")
        func held() throws {
            #expect(destination.pause())
            #expect(eventually { destination.progress.status == .postcopyPaused })
            let main = try comeBack()
            #expect(eventually { progress.refusal != nil })
            #expect(destination.recover())
            expectCompleted(try complete(on: main))
        }

        @Test("a link by which it is being recovered is not ended by hand")
        func pausedInside() throws {
            first.socket.shutDown()
            let main = try comeBack()
            #expect(eventually { destination.progress.status == .postcopyRecover })
            #expect(!destination.pause())
            expectCompleted(try complete(on: main))
        }

        @Test("the one that came last is let in")
        func twice() throws {
            #expect(destination.pause())
            #expect(eventually { destination.progress.status == .postcopyPaused })
            let gone = try comeBack()
            #expect(eventually { progress.refusal != nil })
            let main = try comeBack()
            var reader = RawReader()
            #expect(reader.readSome(from: gone.socket).isEmpty)
            #expect(destination.recover())
            expectCompleted(try complete(on: main))
        }
    }
}
