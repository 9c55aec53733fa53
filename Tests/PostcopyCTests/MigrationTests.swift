import CPostcopy
import PostcopyC
import Synchronization
import Testing

/// Migrations between two guests of this process, by the functions of C alone.
@Suite(.serialized) struct MigrationTests {
    /// Statuses as they were told.
    private final class Told: Sendable {
        let statuses = Mutex<[UInt32]>([])
        let source = Mutex<UInt>(0)
    }

    @Test("a guest moves, every page is right, and both sides tell how it went")
    func completes() throws {
        let pair = unsafe try Pair()
        let (source, destination) = pair.run()
        #expect(source.code == POSTCOPY_OK, "\(source)")
        #expect(destination.code == POSTCOPY_OK, "\(destination)")
        pair.there.stop()
        #expect(pair.there.wrongPages == 0)
        #expect(pair.there.stepsDone >= pair.here.stepsDone)
        #expect(pair.here.calls == ["pause", "save"])
        #expect(pair.there.calls == ["load", "resume", "memory_arrived"])
        let sent = unsafe pair.source.report
        let received = unsafe pair.destination.report
        #expect(unsafe sent.status == UInt32(POSTCOPY_STATUS_COMPLETED))
        #expect(unsafe sent.flags == 0 && sent.problem == nil)
        #expect(unsafe sent.pages_normal + sent.pages_zero >= UInt64(CountingGuest.pages))
        #expect(unsafe sent.downtime == sent.committed_at - sent.guest_stopped_at)
        #expect(unsafe received.status == UInt32(POSTCOPY_STATUS_COMPLETED))
        #expect(unsafe received.flags == UInt32(POSTCOPY_GUEST_RUNS_HERE))
        #expect(unsafe received.missing_count == 0 && received.bytes_received > 0)
        // Any number of times.
        #expect(pair.source.wait().code == POSTCOPY_OK)
        pair.free()
    }

    @Test("with precopy each status is told, in order, the last before the end")
    func precopy() throws {
        let told = Told()
        let pair = unsafe try Pair { options in
            unsafe options.flags = UInt32(POSTCOPY_PRECOPY | POSTCOPY_NO_AUTOMATIC_SWITCH)
            unsafe options.switch_after_rounds = 1
            unsafe options.progress_context = Unmanaged.passUnretained(told).toOpaque()
            unsafe options.progress_interval = 10_000_000
            unsafe options.on_progress = { context, progress in
                let told = unsafe Unmanaged<Told>.fromOpaque(context!).takeUnretainedValue()
                told.statuses.withLock { unsafe $0.append(progress!.pointee.status) }
            }
        }
        let (source, destination) = pair.run(startsPostcopy: false)
        #expect(source.code == POSTCOPY_OK, "\(source)")
        #expect(destination.code == POSTCOPY_OK, "\(destination)")
        let statuses = told.statuses.withLock { $0 }
        #expect(statuses.last == UInt32(POSTCOPY_STATUS_COMPLETED))
        #expect(statuses == statuses.sorted())
        #expect(statuses.contains(UInt32(POSTCOPY_STATUS_ACTIVE)))
        pair.there.stop()
        #expect(pair.there.wrongPages == 0)
        #expect(unsafe pair.source.report.rounds >= 1)
        pair.free()
        // Nothing is told once it has ended.
        #expect(told.statuses.withLock { $0 } == statuses)
    }

    @Test("what is called twice, too early or too late is refused in words, and changes nothing")
    func order() throws {
        let pair = unsafe try Pair()
        let (source, destination) = (pair.source, pair.destination)
        let early: [CError.Answer] = unsafe [
            source.wait(), destination.wait(),
            source.error.of { unsafe postcopy_source_pause(source.handle, $0) },
            unsafe source.error.of { unsafe postcopy_source_recover(source.handle, nil, 0, $0) },
            unsafe source.error.of { unsafe postcopy_source_abandon(source.handle, $0) },
            unsafe source.error.of { unsafe postcopy_destination_pause(destination.handle, $0) },
            unsafe source.error.of {
                unsafe postcopy_destination_recover(destination.handle, nil, $0)
            },
            unsafe source.error.of { unsafe postcopy_destination_abandon(destination.handle, $0) },
            unsafe source.error.of {
                unsafe postcopy_destination_abandon_guest(destination.handle, $0)
            },
            unsafe source.error.of {
                unsafe postcopy_destination_listen(destination.handle, "tcp:127.0.0.1:0", $0)
            },
            unsafe source.error.of {
                unsafe postcopy_source_report_write(source.handle, 0, 0, 1, $0)
            },
        ]
        for answer in early { #expect(answer.code == POSTCOPY_WRONG_STATE, "\(answer)") }
        pair.here.go()
        #expect(destination.start().code == POSTCOPY_OK)
        #expect(source.start(to: destination.address).code == POSTCOPY_OK)
        var report = unsafe postcopy_source_report()
        unsafe report.size = MemoryLayout<postcopy_source_report>.size
        let during: [CError.Answer] = unsafe [
            source.start(to: destination.address), destination.start(),
            source.error.of { unsafe postcopy_source_run(source.handle, destination.address, $0) },
            unsafe source.error.of { unsafe postcopy_destination_run(destination.handle, $0) },
            unsafe source.error.of {
                unsafe postcopy_source_get_report(source.handle, &report, $0)
            },
            source.free(), destination.free(),
            unsafe source.error.of { unsafe postcopy_ram_free(pair.here.ram, $0) },
        ]
        for answer in during { #expect(answer.code == POSTCOPY_WRONG_STATE, "\(answer)") }
        unsafe #expect(
            source.error.of { unsafe postcopy_source_wait(source.handle, 1_000_000, $0) }.code
                == POSTCOPY_TIMED_OUT)
        #expect(source.startPostcopy().code == POSTCOPY_OK)
        #expect(source.wait().code == POSTCOPY_OK)
        #expect(destination.wait().code == POSTCOPY_OK)
        #expect(source.start(to: destination.address).code == POSTCOPY_WRONG_STATE)
        pair.there.stop()
        #expect(pair.there.wrongPages == 0)
        pair.free()
        #expect(source.free().code == POSTCOPY_BAD_HANDLE)
        #expect(source.wait().code == POSTCOPY_BAD_HANDLE)
    }

    @Test("a source that is cancelled leaves its guest running")
    func cancel() throws {
        let pair = unsafe try Pair()
        pair.here.go()
        #expect(pair.destination.start().code == POSTCOPY_OK)
        #expect(pair.source.start(to: pair.destination.address).code == POSTCOPY_OK)
        let cancelled = unsafe pair.source.error.of {
            unsafe postcopy_source_cancel(pair.source.handle, $0)
        }
        #expect(cancelled.code == POSTCOPY_OK)
        let answer = pair.source.wait()
        #expect(answer.code == POSTCOPY_NOT_COMPLETED, "\(answer)")
        #expect(unsafe pair.source.report.flags == UInt32(POSTCOPY_GUEST_RUNS_HERE))
        #expect(unsafe pair.source.report.status == UInt32(POSTCOPY_STATUS_CANCELLED))
        #expect(pair.here.calls == [])
        _ = unsafe pair.source.error.of {
            unsafe postcopy_destination_cancel(pair.destination.handle, $0)
        }
        #expect(pair.destination.wait().code == POSTCOPY_NOT_COMPLETED)
        pair.free()
    }

    @Test("limits change as a whole or not at all")
    func limits() throws {
        let guest = try CountingGuest()
        let source = unsafe try SourceSide(guest) { options in
            unsafe options.flags = UInt32(POSTCOPY_PRECOPY)
            unsafe options.max_bandwidth = 5_000_000
        }
        func limits() -> postcopy_limits {
            var limits = postcopy_limits()
            limits.size = MemoryLayout<postcopy_limits>.size
            _ = unsafe source.error.of {
                unsafe postcopy_source_get_limits(source.handle, &limits, $0)
            }
            return limits
        }
        #expect(limits().max_bandwidth == 5_000_000)
        #expect(limits().downtime_limit == 300_000_000)
        var wanted = limits()
        wanted.max_bandwidth = 0
        wanted.max_postcopy_bandwidth = 7_000_000
        wanted.downtime_limit = 1_000_000
        let taken = unsafe source.error.of {
            unsafe postcopy_source_set_limits(source.handle, &wanted, $0)
        }
        #expect(taken.code == POSTCOPY_OK, "\(taken)")
        #expect(limits().max_bandwidth == 0)
        #expect(limits().max_postcopy_bandwidth == 7_000_000)
        #expect(limits().downtime_limit == 1_000_000)
        wanted.max_postcopy_bandwidth = 9_000_000
        wanted.downtime_limit = 3_000_000_000_000
        let refused = unsafe source.error.of {
            unsafe postcopy_source_set_limits(source.handle, &wanted, $0)
        }
        #expect(refused.code == POSTCOPY_CONFIGURATION, "\(refused)")
        #expect(limits().max_postcopy_bandwidth == 7_000_000)
        #expect(source.free().code == POSTCOPY_OK)
        unsafe #expect(
            source.error.of { unsafe postcopy_ram_free(guest.ram, $0) }.code == POSTCOPY_OK)
    }
}
