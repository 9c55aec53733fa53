import CPostcopy
import PostcopyC
import Synchronization
import Testing

/// Callbacks that fail, and callbacks that call what they must not.
@Suite(.serialized) struct CallbackTests {
    @Test(
        "a callback that fails at the source leaves the guest running there, with its reason",
        arguments: ["pause", "save"])
    func sourceFailure(name: String) throws {
        let pair = unsafe try Pair()
        pair.here.change { $0.failing[name] = "the disk is busy" }
        let (source, destination) = pair.run()
        #expect(source.code == POSTCOPY_CALLBACK, "\(source)")
        #expect(source.message == "the callback \(name): the disk is busy")
        let report = unsafe pair.source.report
        #expect(unsafe report.status == UInt32(POSTCOPY_STATUS_FAILED))
        #expect(unsafe report.flags == UInt32(POSTCOPY_GUEST_RUNS_HERE))
        #expect(unsafe String(cString: report.problem) == source.message)
        #expect(pair.here.calls.last == "resume")
        #expect(destination.code == POSTCOPY_NOT_COMPLETED, "\(destination)")
        #expect(pair.there.calls == [])
        pair.here.stop()
        #expect(pair.here.wrongPages == 0)
        pair.free()
    }

    @Test("a load that fails leaves the guest at the source")
    func load() throws {
        let pair = unsafe try Pair()
        pair.there.change { $0.failing["load"] = "no such device" }
        let (source, destination) = pair.run()
        #expect(destination.code == POSTCOPY_CALLBACK, "\(destination)")
        #expect(destination.message == "the callback load: no such device")
        #expect(unsafe pair.destination.report.flags == 0)
        #expect(source.code == POSTCOPY_NOT_COMPLETED, "\(source)")
        #expect(source.message.contains("no such device"))
        #expect(unsafe pair.source.report.flags == UInt32(POSTCOPY_GUEST_RUNS_HERE))
        #expect(pair.here.calls == ["pause", "save", "resume"])
        pair.free()
    }

    @Test("a resume that fails at the destination is told, and the memory comes all the same")
    func resume() throws {
        let pair = unsafe try Pair()
        pair.there.change { $0.failing["resume"] = "no core" }
        let (source, destination) = pair.run()
        #expect(source.code == POSTCOPY_OK, "\(source)")
        #expect(destination.code == POSTCOPY_CALLBACK, "\(destination)")
        #expect(destination.message == "the callback resume: no core")
        let report = unsafe pair.destination.report
        #expect(unsafe report.status == UInt32(POSTCOPY_STATUS_COMPLETED))
        #expect(unsafe report.missing_count == 0)
        pair.free()
    }

    @Test("a reason may fill its room to the last byte, or be left out")
    func reasons() throws {
        for (reason, says) in [
            (String(repeating: "x", count: 600), String(repeating: "x", count: 512)),
            ("", "answered -5"),
        ] {
            let pair = unsafe try Pair()
            pair.here.change { $0.failing["pause"] = reason }
            let (source, _) = pair.run()
            #expect(source.code == POSTCOPY_CALLBACK)
            #expect(source.message.hasSuffix(says), "\(source)")
            pair.free()
        }
    }

    @Test("device state over the limit fails the save")
    func overfull() throws {
        let pair = unsafe try Pair()
        pair.here.change { $0.savedBytes = 64 << 20 + 1 }
        let (source, _) = pair.run()
        #expect(source.code == POSTCOPY_CALLBACK, "\(source)")
        #expect(source.message.contains("67108864"))
        #expect(unsafe pair.source.report.flags == UInt32(POSTCOPY_GUEST_RUNS_HERE))
        pair.free()
    }

    @Test("what blocks, and what frees, is refused inside of a callback")
    func reentry() throws {
        let pair = unsafe try Pair()
        let answers = Mutex<[CError.Answer]>([])
        let (source, destination) = (pair.source, pair.destination)
        let calls: @Sendable () -> Void = {
            let error = CError()
            let waits = unsafe error.of { unsafe postcopy_source_wait(source.handle, patience, $0) }
            let run = unsafe error.of {
                unsafe postcopy_source_run(source.handle, "unix:/none", $0)
            }
            let frees = unsafe error.of { unsafe postcopy_source_free(source.handle, $0) }
            answers.withLock { $0 += [waits, run, frees] }
        }
        pair.here.change {
            $0.inside["pause"] = calls
            $0.inside["save"] = calls
        }
        pair.there.change {
            $0.inside["load"] = {
                let error = CError()
                let waits = unsafe error.of {
                    unsafe postcopy_destination_wait(destination.handle, patience, $0)
                }
                answers.withLock { $0.append(waits) }
            }
        }
        let ends = pair.run()
        #expect(ends.source.code == POSTCOPY_OK, "\(ends.source)")
        #expect(ends.destination.code == POSTCOPY_OK, "\(ends.destination)")
        let told = answers.withLock { $0 }
        #expect(told.count == 7)
        for answer in told { #expect(answer.code == POSTCOPY_WRONG_STATE, "\(answer)") }
        pair.there.stop()
        #expect(pair.there.wrongPages == 0)
        pair.free()
    }

    @Test("a sink is of no use behind its save")
    func lateSink() throws {
        let pair = unsafe try Pair()
        let ends = pair.run()
        #expect(ends.source.code == POSTCOPY_OK, "\(ends.source)")
        let sink = unsafe OpaquePointer(bitPattern: pair.here.lastSink)
        #expect(unsafe sink != nil)
        #expect(unsafe postcopy_sink_write(sink, nil, 0) == POSTCOPY_BAD_HANDLE)
        pair.free()
    }
}
