import CPostcopy
import LinuxKernel
import PostcopyC
import Synchronization
import Testing

/// Migrations that are paused and recovered, given up, or held up by their guest; and other trackers.
@Suite(.serialized) struct SteeringTests {
    /// Steers its source from the callback that tells how it goes.
    final class Pilot: Sendable {
        let source = Atomic<UInt>(0)
        /// What was asked for, with the answers.
        let asked = Mutex<[(what: String, code: Int)]>([])
        let recovers: Bool

        init(recovers: Bool) { self.recovers = recovers }

        func see(_ status: Int) {
            let handle = unsafe OpaquePointer(bitPattern: source.load(ordering: .acquiring))
            let asked = asked.withLock { $0 }
            if status == POSTCOPY_STATUS_POSTCOPY_ACTIVE, asked.isEmpty {
                note("pause", unsafe postcopy_source_pause(handle, nil))
            } else if status == POSTCOPY_STATUS_POSTCOPY_PAUSED, asked.count == 1 {
                if recovers {
                    note("recover", unsafe postcopy_source_recover(handle, nil, 0, nil))
                } else {
                    note("abandon", unsafe postcopy_source_abandon(handle, nil))
                }
            }
        }

        private func note(_ what: String, _ code: postcopy_code) {
            asked.withLock { $0.append((what, Int(code))) }
        }
    }

    /// A pair whose source is steered, slow enough to be met on its way.
    private func steered(_ pilot: Pilot) throws -> Pair {
        let pair = unsafe try Pair { options in
            unsafe options.recovery = UInt32(POSTCOPY_RECOVER_BY_HAND)
            unsafe options.max_postcopy_bandwidth = 1 << 20
            unsafe options.progress_interval = 10_000_000
            unsafe options.progress_context = Unmanaged.passUnretained(pilot).toOpaque()
            unsafe options.on_progress = { context, progress in
                let pilot = unsafe Unmanaged<Pilot>.fromOpaque(context!).takeUnretainedValue()
                pilot.see(Int(unsafe progress!.pointee.status))
            }
        }
        pilot.source.store(unsafe UInt(bitPattern: pair.source.handle), ordering: .releasing)
        return pair
    }

    @Test("a destination whose start was refused listens again, and is started then")
    func refusedStart() throws {
        let guest = try CountingGuest()
        let (first, second) = unsafe (try DestinationSide(guest), try DestinationSide(guest))
        func listen() -> CError.Answer {
            unsafe second.error.of {
                unsafe postcopy_destination_listen(second.handle, "tcp:127.0.0.1:0", $0)
            }
        }
        #expect(first.start().code == POSTCOPY_OK)
        #expect(listen().code == POSTCOPY_WRONG_STATE)
        let refused = second.start()
        #expect(refused.code == POSTCOPY_WRONG_STATE, "\(refused)")
        #expect(refused.message.contains("in another migration"), "\(refused)")
        let again = listen()
        #expect(again.code == POSTCOPY_OK, "\(again)")
        _ = unsafe postcopy_destination_cancel(first.handle, nil)
        #expect(first.wait().code == POSTCOPY_NOT_COMPLETED)
        let started = second.start()
        #expect(started.code == POSTCOPY_OK, "\(started)")
        #expect(listen().code == POSTCOPY_WRONG_STATE)
        _ = unsafe postcopy_destination_cancel(second.handle, nil)
        #expect(second.wait().code == POSTCOPY_NOT_COMPLETED)
        #expect(first.free().code == POSTCOPY_OK)
        #expect(second.free().code == POSTCOPY_OK)
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }

    @Test("a migration that is paused by hand goes on when it is recovered")
    func recovers() throws {
        let pilot = Pilot(recovers: true)
        let pair = try steered(pilot)
        let (source, destination) = pair.run()
        #expect(source.code == POSTCOPY_OK, "\(source)")
        #expect(destination.code == POSTCOPY_OK, "\(destination)")
        let asked = pilot.asked.withLock { $0 }
        #expect(asked.map(\.what) == ["pause", "recover"])
        #expect(asked.allSatisfy { $0.code == POSTCOPY_OK })
        #expect(unsafe pair.source.report.breaks == 1)
        #expect(unsafe pair.destination.report.breaks == 1)
        pair.there.stop()
        #expect(pair.there.wrongPages == 0)
        pair.free()
    }

    @Test("a migration that is given up tells both sides, and the guest what it lost")
    func abandons() throws {
        let pilot = Pilot(recovers: false)
        let pair = try steered(pilot)
        // Its thread would wait in a page that never comes.
        pair.there.change { $0.failing["resume"] = "stays" }
        pair.here.go()
        let (source, destination) = (pair.source, pair.destination)
        #expect(destination.start().code == POSTCOPY_OK)
        #expect(source.start(to: destination.address).code == POSTCOPY_OK)
        #expect(source.startPostcopy().code == POSTCOPY_OK)
        let sent = source.wait()
        #expect(sent.code == POSTCOPY_NOT_COMPLETED, "\(sent)")
        #expect(unsafe source.report.flags == UInt32(POSTCOPY_ABANDONED))
        let deadline = Monotonic.now() + patience
        var answer = POSTCOPY_WRONG_STATE
        // The destination hears of the end of its link in its own time.
        let never = try EventFlag()
        while answer == POSTCOPY_WRONG_STATE, Monotonic.now() < deadline {
            answer = Int(unsafe postcopy_destination_abandon(destination.handle, nil))
            _ = never.wait(timeoutNanoseconds: 1_000_000)
        }
        #expect(answer == POSTCOPY_OK)
        #expect(destination.wait().code == POSTCOPY_CALLBACK)
        let report = unsafe destination.report
        #expect(unsafe report.flags & UInt32(POSTCOPY_ABANDONED) != 0)
        #expect(unsafe report.missing_count == 1)
        let missing = unsafe report.missing![0]
        #expect(unsafe String(cString: missing.block) == "c.ram" && missing.pages > 0)
        #expect(unsafe pair.there.lostPages == ["c.ram": missing.pages])
        pair.free()
    }

    @Test("a guest that does not pause costs the migration, and its source is kept until it has")
    func hangingPause() throws {
        let pair = unsafe try Pair { options in unsafe options.pause_limit = 2_000_000_000 }
        let release = try EventFlag()
        pair.here.change { $0.inside["pause"] = { release.wait() } }
        let (source, _) = pair.run()
        #expect(source.code == POSTCOPY_NOT_COMPLETED, "\(source)")
        #expect(source.message.contains("2000 ms"))
        #expect(unsafe pair.source.report.flags == UInt32(POSTCOPY_GUEST_RUNS_HERE))
        let early = pair.source.free()
        #expect(early.code == POSTCOPY_WRONG_STATE, "\(early)")
        release.raise()
        let deadline = Monotonic.now() + patience
        let never = try EventFlag()
        while pair.here.calls.last != "resume", Monotonic.now() < deadline {
            _ = never.wait(timeoutNanoseconds: 1_000_000)
        }
        #expect(pair.here.calls == ["pause", "save", "resume"])
        while pair.source.free().code == POSTCOPY_WRONG_STATE, Monotonic.now() < deadline {
            _ = never.wait(timeoutNanoseconds: 1_000_000)
        }
        #expect(pair.source.free().code == POSTCOPY_BAD_HANDLE)
        pair.here.stop()
        #expect(pair.here.wrongPages == 0)
        #expect(pair.destination.free().code == POSTCOPY_OK)
        for guest in [pair.here, pair.there] {
            #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
        }
    }

    @Test("a guest that reports its writes is migrated by them")
    func reportedWrites() throws {
        let here = try CountingGuest()
        let error = CError()
        var options = unsafe postcopy_options()
        unsafe options.size = MemoryLayout<postcopy_options>.size
        unsafe options.flags = UInt32(POSTCOPY_PRECOPY | POSTCOPY_NO_AUTOMATIC_SWITCH)
        unsafe options.switch_after_rounds = 2
        var handle: OpaquePointer?
        let made = unsafe here.describe { guest in
            unsafe guest.tracking = UInt32(POSTCOPY_TRACK_REPORTS)
            return unsafe error.of {
                unsafe postcopy_source_create(&guest, &options, &handle, $0)
            }
        }
        #expect(made.code == POSTCOPY_OK, "\(made)")
        let there = try CountingGuest()
        let destination = unsafe try DestinationSide(there)
        here.reportsTo.store(UInt(bitPattern: handle), ordering: .releasing)
        here.go()
        #expect(destination.start().code == POSTCOPY_OK)
        let sent = unsafe error.of {
            unsafe postcopy_source_run(handle, destination.address, $0)
        }
        #expect(sent.code == POSTCOPY_OK, "\(sent)")
        #expect(destination.wait().code == POSTCOPY_OK)
        there.stop()
        #expect(there.wrongPages == 0)
        let outside = unsafe error.of {
            unsafe postcopy_source_report_write(handle, 0, 500, UInt64.max, $0)
        }
        #expect(outside.code == POSTCOPY_INVALID_ARGUMENT, "\(outside)")
        #expect(unsafe postcopy_source_free(handle, nil) == POSTCOPY_OK)
        #expect(destination.free().code == POSTCOPY_OK)
        for guest in [here, there] {
            #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
        }
    }

    @Test("a virtual machine that is none, and slots outside of the memory, are refused in words")
    func kvm() throws {
        let guest = try CountingGuest()
        let error = CError()
        var options = unsafe postcopy_options()
        unsafe options.size = MemoryLayout<postcopy_options>.size
        unsafe options.flags = UInt32(POSTCOPY_PRECOPY)
        var slot = postcopy_kvm_slot()
        slot.length = CountingGuest.bytes
        func create(_ change: (inout postcopy_guest) -> Void) -> CError.Answer {
            var handle: OpaquePointer?
            return unsafe guest.describe { guest in
                unsafe withUnsafePointer(to: slot) { slots in
                    unsafe guest.tracking = UInt32(POSTCOPY_TRACK_KVM)
                    unsafe guest.kvm_slots = slots
                    unsafe guest.kvm_slot_count = 1
                    unsafe guest.kvm_machine = -1
                    unsafe change(&guest)
                    return unsafe error.of {
                        unsafe postcopy_source_create(&guest, &options, &handle, $0)
                    }
                }
            }
        }
        let none = unsafe create { _ in }
        #expect(none.code == POSTCOPY_REFUSED, "\(none)")
        let count = unsafe create { unsafe $0.kvm_slot_count = 40_000 }
        #expect(count.code == POSTCOPY_REFUSED && count.message.contains("32768"), "\(count)")
        slot.block = 1
        let block = unsafe create { unsafe $0.kvm_machine = 0 }
        #expect(block.code == POSTCOPY_REFUSED && block.message.contains("RAM block 1"), "\(block)")
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }
}
