import CPostcopy
import PostcopyC
import Testing

/// How long a test waits for what takes milliseconds, in nanoseconds.
let patience: UInt64 = 30_000_000_000

/// A source in the hands of a test.
@safe
final class SourceSide: @unchecked Sendable {
    // SAFETY: the handle is constant, and the library's functions may be called from any thread.
    let handle: OpaquePointer
    let error = CError()

    init(
        _ guest: CountingGuest, _ change: (inout postcopy_options) -> Void = { _ in }
    ) throws(TestFailure) {
        var handle: OpaquePointer?
        let error = self.error
        var options = unsafe postcopy_options()
        unsafe options.size = MemoryLayout<postcopy_options>.size
        unsafe change(&options)
        let answer = unsafe guest.describe { guest in
            unsafe error.of { unsafe postcopy_source_create(&guest, &options, &handle, $0) }
        }
        guard let made = unsafe handle else { throw TestFailure("\(answer)") }
        unsafe self.handle = made
    }

    func start(to address: String) -> CError.Answer {
        unsafe error.of { unsafe postcopy_source_start(handle, address, $0) }
    }

    func wait() -> CError.Answer {
        unsafe error.of { unsafe postcopy_source_wait(handle, patience, $0) }
    }

    func startPostcopy() -> CError.Answer {
        unsafe error.of { unsafe postcopy_source_start_postcopy(handle, $0) }
    }

    func free() -> CError.Answer { unsafe error.of { unsafe postcopy_source_free(handle, $0) } }

    var report: postcopy_source_report {
        var report = unsafe postcopy_source_report()
        unsafe report.size = MemoryLayout<postcopy_source_report>.size
        _ = unsafe error.of { unsafe postcopy_source_get_report(handle, &report, $0) }
        return unsafe report
    }
}

/// A destination in the hands of a test, which listens.
@safe
final class DestinationSide: @unchecked Sendable {
    // SAFETY: the handle is constant, and the library's functions may be called from any thread.
    let handle: OpaquePointer
    let error = CError()

    init(
        _ guest: CountingGuest, _ change: (inout postcopy_options) -> Void = { _ in }
    ) throws(TestFailure) {
        var handle: OpaquePointer?
        let error = self.error
        var options = unsafe postcopy_options()
        unsafe options.size = MemoryLayout<postcopy_options>.size
        unsafe change(&options)
        let answer = unsafe guest.describe { guest in
            unsafe error.of { unsafe postcopy_destination_create(&guest, &options, &handle, $0) }
        }
        guard let made = unsafe handle else { throw TestFailure("\(answer)") }
        unsafe self.handle = made
        let listens = unsafe error.of {
            unsafe postcopy_destination_listen(made, "tcp:127.0.0.1:0", $0)
        }
        guard listens.code == POSTCOPY_OK else { throw TestFailure("\(listens)") }
    }

    var address: String {
        guard let text = unsafe postcopy_destination_address(handle) else { return "" }
        return unsafe String(cString: text)
    }

    func start() -> CError.Answer {
        unsafe error.of { unsafe postcopy_destination_start(handle, $0) }
    }

    func wait() -> CError.Answer {
        unsafe error.of { unsafe postcopy_destination_wait(handle, patience, $0) }
    }

    func free() -> CError.Answer {
        unsafe error.of { unsafe postcopy_destination_free(handle, $0) }
    }

    var report: postcopy_destination_report {
        var report = unsafe postcopy_destination_report()
        unsafe report.size = MemoryLayout<postcopy_destination_report>.size
        _ = unsafe error.of { unsafe postcopy_destination_get_report(handle, &report, $0) }
        return unsafe report
    }
}

/// Two guests, the first of which runs and is migrated to the second without precopy.
struct Pair {
    let (here, there): (CountingGuest, CountingGuest)
    let source: SourceSide
    let destination: DestinationSide

    init(
        _ change: (inout postcopy_options) -> Void = { _ in }
    ) throws(TestFailure) {
        here = try CountingGuest()
        there = try CountingGuest()
        source = unsafe try SourceSide(here, change)
        destination = unsafe try DestinationSide(there)
    }

    /// Runs both to their ends; answers what waiting for each said.
    /// - Parameter startsPostcopy: whether the guest moves by hand.
    func run(
        startsPostcopy: Bool = true
    ) -> (source: CError.Answer, destination: CError.Answer) {
        here.go()
        #expect(destination.start().code == POSTCOPY_OK)
        #expect(source.start(to: destination.address).code == POSTCOPY_OK)
        if startsPostcopy { #expect(source.startPostcopy().code == POSTCOPY_OK) }
        let sent = source.wait()
        // One that failed would wait for its source to come back and be told so.
        if sent.code != POSTCOPY_OK {
            _ = unsafe postcopy_destination_cancel(destination.handle, nil)
        }
        return (sent, destination.wait())
    }

    /// Frees everything, and expects that it could.
    func free() {
        here.stop()
        there.stop()
        let error = CError()
        #expect(source.free().code == POSTCOPY_OK)
        #expect(destination.free().code == POSTCOPY_OK)
        for guest in [here, there] {
            unsafe #expect(error.of { unsafe postcopy_ram_free(guest.ram, $0) }.code == POSTCOPY_OK)
        }
    }
}
