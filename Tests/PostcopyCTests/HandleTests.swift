import CPostcopy
import PostcopyC
import Testing

/// Handles that are NULL, freed or of another kind, and other arguments that cannot be.
@Suite(.serialized) struct HandleTests {
    /// A function that takes a handle, and nothing else that could be wrong first.
    @safe
    struct Call: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let call: @Sendable (OpaquePointer?, OpaquePointer) -> postcopy_code

        init(
            _ name: String,
            _ call: @escaping @Sendable (OpaquePointer?, OpaquePointer) -> postcopy_code
        ) {
            testDescription = name
            unsafe self.call = call
        }
    }

    private static let calls = unsafe [
        Call("ram_resize") { unsafe postcopy_ram_resize($0, 4096, $1) },
        unsafe Call("ram_lock") { unsafe postcopy_ram_lock($0, $1) },
        unsafe Call("ram_free") { unsafe postcopy_ram_free($0, $1) },
        unsafe Call("source_run") { unsafe postcopy_source_run($0, "unix:/none", $1) },
        unsafe Call("source_start") { unsafe postcopy_source_start($0, "unix:/none", $1) },
        unsafe Call("source_wait") { unsafe postcopy_source_wait($0, 0, $1) },
        unsafe Call("source_start_postcopy") { unsafe postcopy_source_start_postcopy($0, $1) },
        unsafe Call("source_cancel") { unsafe postcopy_source_cancel($0, $1) },
        unsafe Call("source_pause") { unsafe postcopy_source_pause($0, $1) },
        unsafe Call("source_recover") { unsafe postcopy_source_recover($0, nil, 0, $1) },
        unsafe Call("source_abandon") { unsafe postcopy_source_abandon($0, $1) },
        unsafe Call("source_report_write") { unsafe postcopy_source_report_write($0, 0, 0, 1, $1) },
        unsafe Call("source_hint_free") { unsafe postcopy_source_hint_free($0, 0, 0, 1, $1) },
        unsafe Call("source_set_limits") { unsafe postcopy_source_set_limits($0, nil, $1) },
        unsafe Call("source_get_limits") { unsafe postcopy_source_get_limits($0, nil, $1) },
        unsafe Call("source_progress") { unsafe postcopy_source_progress($0, nil, $1) },
        unsafe Call("source_get_report") { unsafe postcopy_source_get_report($0, nil, $1) },
        unsafe Call("source_free") { unsafe postcopy_source_free($0, $1) },
        unsafe Call("destination_listen") {
            unsafe postcopy_destination_listen($0, "unix:/none", $1)
        },
        unsafe Call("destination_run") { unsafe postcopy_destination_run($0, $1) },
        unsafe Call("destination_start") { unsafe postcopy_destination_start($0, $1) },
        unsafe Call("destination_wait") { unsafe postcopy_destination_wait($0, 0, $1) },
        unsafe Call("destination_cancel") { unsafe postcopy_destination_cancel($0, $1) },
        unsafe Call("destination_pause") { unsafe postcopy_destination_pause($0, $1) },
        unsafe Call("destination_recover") { unsafe postcopy_destination_recover($0, nil, $1) },
        unsafe Call("destination_abandon") { unsafe postcopy_destination_abandon($0, $1) },
        unsafe Call("destination_abandon_guest") {
            unsafe postcopy_destination_abandon_guest($0, $1)
        },
        unsafe Call("destination_progress") { unsafe postcopy_destination_progress($0, nil, $1) },
        unsafe Call("destination_get_report") {
            unsafe postcopy_destination_get_report($0, nil, $1)
        },
        unsafe Call("destination_free") { unsafe postcopy_destination_free($0, $1) },
        unsafe Call("faults_start") { unsafe postcopy_faults_start($0, $1) },
        unsafe Call("faults_fill") { unsafe postcopy_faults_fill($0, $1) },
        unsafe Call("faults_prefetch") { unsafe postcopy_faults_prefetch($0, "/none", $1) },
        unsafe Call("faults_wait_filled") { unsafe postcopy_faults_wait_filled($0, 0, $1) },
        unsafe Call("faults_wait_ended") { unsafe postcopy_faults_wait_ended($0, 0, $1) },
        unsafe Call("faults_get_progress") { unsafe postcopy_faults_get_progress($0, nil, $1) },
        unsafe Call("faults_stop") { unsafe postcopy_faults_stop($0, $1) },
        unsafe Call("faults_save_trace") { unsafe postcopy_faults_save_trace($0, "/none", $1) },
        unsafe Call("faults_free") { unsafe postcopy_faults_free($0, $1) },
    ]

    @Test("a handle that is none is refused and never followed", arguments: calls)
    func refused(call: Call) throws {
        let error = CError()
        var freed: OpaquePointer?
        unsafe freed = postcopy_error_create()
        unsafe postcopy_error_free(freed)
        let bitsOf = unsafe (UInt(bitPattern: freed), UInt(bitPattern: error.handle))
        let others: [UInt] = [bitsOf.0, bitsOf.1, 1, .max]
        for bits in others {
            let other = unsafe OpaquePointer(bitPattern: bits)
            let answer = unsafe error.of { unsafe call.call(other, $0) }
            #expect(answer.code == POSTCOPY_BAD_HANDLE, "\(answer)")
            #expect(answer.message.contains("postcopy_"))
        }
        let none = unsafe error.of { unsafe call.call(nil, $0) }
        // What is to be freed and is not there needs no freeing.
        let frees =
            call.testDescription.hasSuffix("_free")
            && call.testDescription != "source_hint_free"
        #expect(none.code == (frees ? POSTCOPY_OK : POSTCOPY_BAD_HANDLE), "\(none)")
    }

    @Test("what has no error to answer answers nothing for a handle that is none")
    func without() throws {
        for bits: UInt in [0, 48_000_000] {
            let bad = unsafe OpaquePointer(bitPattern: bits)
            #expect(unsafe postcopy_ram_address(bad) == nil)
            #expect(unsafe postcopy_ram_length(bad) == 0)
            #expect(unsafe postcopy_ram_used_length(bad) == 0)
            #expect(unsafe postcopy_destination_address(bad) == nil)
            #expect(unsafe postcopy_sink_write(bad, nil, 0) == POSTCOPY_BAD_HANDLE)
            #expect(unsafe postcopy_error_code(bad) == POSTCOPY_BAD_HANDLE)
            #expect(unsafe String(cString: postcopy_error_message(bad)).contains("postcopy_error"))
            unsafe postcopy_error_free(bad)
        }
    }

    @Test("an error keeps the last call's reason, and nothing behind one that went well")
    func reasons() throws {
        let error = CError()
        #expect(error.code == POSTCOPY_OK && error.message == "")
        unsafe #expect(error.of { unsafe postcopy_ram_lock(nil, $0) }.code == POSTCOPY_BAD_HANDLE)
        #expect(error.code == POSTCOPY_BAD_HANDLE)
        #expect(error.message == "the postcopy_ram is NULL")
        unsafe #expect(error.of { unsafe postcopy_ram_free(nil, $0) }.code == POSTCOPY_OK)
        #expect(error.code == POSTCOPY_OK && error.message == "")
        // Without one the code is all there is.
        #expect(postcopy_ram_lock(nil, nil) == POSTCOPY_BAD_HANDLE)
    }

    @Test("every code and status has its name, and other numbers have one too")
    func names() {
        let codes = (0...11).map { unsafe String(cString: postcopy_code_name($0)) }
        #expect(Set(codes).count == 12 && codes.allSatisfy { $0.hasPrefix("POSTCOPY_") })
        #expect(codes[POSTCOPY_TIMED_OUT] == "POSTCOPY_TIMED_OUT")
        for other: postcopy_code in [-1, 12, .max, .min] {
            #expect(unsafe String(cString: postcopy_code_name(other)) == "unknown code")
        }
        let statuses = (0...10).map { unsafe String(cString: postcopy_status_name($0)) }
        #expect(Set(statuses).count == 11 && !statuses.contains("unknown"))
        #expect(unsafe String(cString: postcopy_status_name(11)) == "unknown")
    }

    @Test("the version is the header's")
    func version() {
        let numbers = [
            POSTCOPY_VERSION_MAJOR, POSTCOPY_VERSION_MINOR, POSTCOPY_VERSION_PATCH,
        ].map(Int.init)
        let text = unsafe String(cString: postcopy_version_text())
        #expect(text == numbers.map(String.init).joined(separator: "."))
        #expect(Int(postcopy_version()) == numbers[0] << 16 | numbers[1] << 8 | numbers[2])
    }
}
