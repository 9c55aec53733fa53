import CPostcopy
import Glibc
import LinuxKernel
import PostcopyC
import Testing

/// Structs, texts and memory that cannot be as they are given.
@Suite(.serialized) struct ArgumentTests {
    /// Makes a block, and frees it again; answers how that went.
    private func block(
        name: UnsafePointer<CChar>?, _ change: (inout postcopy_ram_options) -> Void = { _ in }
    ) -> CError.Answer {
        let error = CError()
        var options = unsafe postcopy_ram_options()
        unsafe options.size = MemoryLayout<postcopy_ram_options>.size
        unsafe options.name = name
        unsafe options.length = 1 << 20
        unsafe change(&options)
        var ram: OpaquePointer? = unsafe OpaquePointer(bitPattern: 8)
        let answer = unsafe error.of { unsafe postcopy_ram_create(&options, &ram, $0) }
        #expect(unsafe (ram == nil) == (answer.code != POSTCOPY_OK))
        if answer.code == POSTCOPY_OK {
            #expect(unsafe postcopy_ram_free(ram, nil) == POSTCOPY_OK)
        }
        return answer
    }

    @Test("a block that cannot be is refused, with the reason")
    func blocks() {
        let cases: [(postcopy_code, String, (inout postcopy_ram_options) -> Void)] = unsafe [
            (.init(POSTCOPY_INVALID_ARGUMENT), "sizeof", { unsafe $0.size = 0 }),
            (.init(POSTCOPY_INVALID_ARGUMENT), "sizeof", { unsafe $0.size = 1 << 40 }),
            (.init(POSTCOPY_INVALID_ARGUMENT), "name is NULL", { unsafe $0.name = nil }),
            (.init(POSTCOPY_INVALID_ARGUMENT), "power of two", { unsafe $0.page_size = 5000 }),
            (.init(POSTCOPY_INVALID_ARGUMENT), "backing 3", { unsafe $0.backing = 3 }),
            (.init(POSTCOPY_INVALID_ARGUMENT), "reserved", { unsafe $0.reserved = 1 }),
            (.init(POSTCOPY_CONFIGURATION), "empty", { unsafe $0.length = 0 }),
            (.init(POSTCOPY_CONFIGURATION), "no multiple", { unsafe $0.length = 4097 }),
            (.init(POSTCOPY_CONFIGURATION), "address space", { unsafe $0.length = 1 << 63 }),
            (.init(POSTCOPY_MEMORY), "5000", { unsafe $0.used_length = 5000 }),
            (
                .init(POSTCOPY_MEMORY), "hugetlb",
                {
                    unsafe $0.page_size = 2 << 20; unsafe $0.length = 2 << 20
                }
            ),
            (
                .init(POSTCOPY_MEMORY), "nothing is mapped",
                {
                    unsafe $0.mapping = UnsafeMutableRawPointer(bitPattern: 1 << 46)
                }
            ),
        ]
        for index in unsafe cases.indices {
            let (code, says, change) = unsafe cases[index]
            let answer = unsafe "a.ram".withCString { unsafe block(name: $0, change) }
            #expect(answer.code == Int(code), "\(says): \(answer)")
            #expect(answer.message.contains(says), "\(says): \(answer)")
        }
        let broken: [CChar] = [97, -1, 98, 0]
        #expect(unsafe block(name: broken).message.contains("UTF-8"))
    }

    @Test("memory of every kind is had, and gone once it is freed", arguments: [0, 1])
    func backings(backing: UInt32) {
        let answer = unsafe "a.ram".withCString { name in
            unsafe block(name: name) { unsafe $0.backing = backing }
        }
        #expect(answer.code == POSTCOPY_OK, "\(answer)")
    }

    @Test("a mapping that is given is used as it is, and left")
    func givenMapping() throws {
        let length = 64 << 10
        let mapping = unsafe mmap(
            nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        let start = unsafe try #require(unsafe mapping)
        defer { _ = unsafe munmap(start, length) }
        let error = CError()
        var options = unsafe postcopy_ram_options()
        unsafe options.size = MemoryLayout<postcopy_ram_options>.size
        unsafe options.length = UInt64(length)
        unsafe options.mapping = start
        var ram: OpaquePointer?
        let answer = unsafe "given".withCString { name in
            unsafe options.name = name
            return unsafe error.of { unsafe postcopy_ram_create(&options, &ram, $0) }
        }
        #expect(answer.code == POSTCOPY_OK, "\(answer)")
        #expect(unsafe postcopy_ram_address(ram) == start)
        #expect(unsafe postcopy_ram_length(ram) == UInt64(length))
        unsafe start.storeBytes(of: 42, as: UInt8.self)
        #expect(unsafe postcopy_ram_free(ram, nil) == POSTCOPY_OK)
        #expect(unsafe start.load(as: UInt8.self) == 42)
    }

    @Test("a resizable block changes its length, another does not")
    func resize() throws {
        let error = CError()
        var options = unsafe postcopy_ram_options()
        unsafe options.size = MemoryLayout<postcopy_ram_options>.size
        unsafe options.length = 1 << 20
        unsafe options.used_length = 8192
        var ram: OpaquePointer?
        _ = unsafe "a.ram".withCString { name in
            unsafe options.name = name
            return unsafe postcopy_ram_create(&options, &ram, nil)
        }
        #expect(unsafe postcopy_ram_used_length(ram) == 8192)
        unsafe #expect(error.of { unsafe postcopy_ram_resize(ram, 4096, $0) }.code == POSTCOPY_OK)
        #expect(unsafe postcopy_ram_used_length(ram) == 4096)
        unsafe #expect(
            error.of { unsafe postcopy_ram_resize(ram, 2 << 20, $0) }.code == POSTCOPY_MEMORY)
        #expect(unsafe postcopy_ram_free(ram, nil) == POSTCOPY_OK)
        let guest = try CountingGuest()
        let fixed = unsafe error.of { unsafe postcopy_ram_resize(guest.ram, 4096, $0) }
        #expect(fixed.code == POSTCOPY_MEMORY, "\(fixed)")
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }

    @Test("a struct of a later header is taken as long as what is new is 0")
    func growth() throws {
        let guest = try CountingGuest()
        let error = CError()
        let size = unsafe MemoryLayout<postcopy_options>.size
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 64, alignment: 16)
        defer { unsafe bytes.deallocate() }
        unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
        unsafe bytes.storeBytes(of: size + 64, as: Int.self)
        let options = unsafe bytes.baseAddress!.assumingMemoryBound(to: postcopy_options.self)
        var source: OpaquePointer?
        func create() -> CError.Answer {
            unsafe guest.describe { guest in
                unsafe error.of { unsafe postcopy_source_create(&guest, options, &source, $0) }
            }
        }
        #expect(create().code == POSTCOPY_OK)
        var progress = postcopy_progress()
        progress.size = MemoryLayout<postcopy_progress>.size
        unsafe #expect(
            error.of { unsafe postcopy_source_progress(source, &progress, $0) }.code == POSTCOPY_OK)
        #expect(progress.pages_total == UInt64(CountingGuest.pages))
        #expect(progress.size == MemoryLayout<postcopy_progress>.size)
        #expect(unsafe postcopy_source_free(source, nil) == POSTCOPY_OK)
        unsafe bytes[size + 63] = 1
        let refused = create()
        #expect(refused.code == POSTCOPY_INVALID_ARGUMENT, "\(refused)")
        #expect(refused.message.contains("byte \(size + 63)"))
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }

    @Test("what a longer answer has more is 0")
    func longerAnswer() throws {
        let guest = try CountingGuest()
        let source = unsafe try SourceSide(guest)
        let size = MemoryLayout<postcopy_progress>.size
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 32, alignment: 16)
        defer { unsafe bytes.deallocate() }
        unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0xff)
        unsafe bytes.storeBytes(of: size + 32, as: Int.self)
        let progress = unsafe bytes.baseAddress!.assumingMemoryBound(to: postcopy_progress.self)
        #expect(unsafe postcopy_source_progress(source.handle, progress, nil) == POSTCOPY_OK)
        #expect(unsafe bytes.loadUnaligned(as: Int.self) == size + 32)
        #expect(unsafe bytes[size...].allSatisfy { $0 == 0 })
        #expect(source.free().code == POSTCOPY_OK)
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }

    @Test("a guest that cannot be is refused, with the reason")
    func guests() throws {
        let guest = try CountingGuest()
        let error = CError()
        let cases: [(Int, String, (inout postcopy_guest) -> Void)] = unsafe [
            (POSTCOPY_INVALID_ARGUMENT, "sizeof", { unsafe $0.size = 8 }),
            (POSTCOPY_INVALID_ARGUMENT, "pause is NULL", { unsafe $0.pause = nil }),
            (POSTCOPY_INVALID_ARGUMENT, "resume is NULL", { unsafe $0.resume = nil }),
            (POSTCOPY_INVALID_ARGUMENT, "save is NULL", { unsafe $0.save = nil }),
            (POSTCOPY_INVALID_ARGUMENT, "load is NULL", { unsafe $0.load = nil }),
            (POSTCOPY_INVALID_ARGUMENT, "machine_type is NULL", { unsafe $0.machine_type = nil }),
            (POSTCOPY_INVALID_ARGUMENT, "fault_origin 9", { unsafe $0.fault_origin = 9 }),
            (POSTCOPY_INVALID_ARGUMENT, "tracking 7", { unsafe $0.tracking = 7 }),
            (POSTCOPY_INVALID_ARGUMENT, "RAM blocks is NULL", { unsafe $0.ram = nil }),
            (POSTCOPY_INVALID_ARGUMENT, "over 1024", { unsafe $0.ram_count = 1 << 40 }),
            (POSTCOPY_CONFIGURATION, "no RAM block", { unsafe $0.ram_count = 0 }),
        ]
        for index in unsafe cases.indices {
            let (code, says, change) = unsafe cases[index]
            var source: OpaquePointer?
            let answer = unsafe guest.describe { guest in
                unsafe change(&guest)
                return unsafe error.of { unsafe postcopy_source_create(&guest, nil, &source, $0) }
            }
            #expect(answer.code == code, "\(says): \(answer)")
            #expect(answer.message.contains(says), "\(says): \(answer)")
            #expect(unsafe source == nil)
        }
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }

    @Test("options that cannot be are refused, with the reason")
    func options() throws {
        let guest = try CountingGuest()
        let cases: [(String, (inout postcopy_options) -> Void)] = unsafe [
            ("does not know", { unsafe $0.flags = 1 << 31 }),
            ("recovery 3", { unsafe $0.recovery = 3 }),
            ("set POSTCOPY_PRECOPY", { unsafe $0.warm_up = 1 }),
            ("set POSTCOPY_PRECOPY", { unsafe $0.flags = UInt32(POSTCOPY_AUTO_CONVERGE) }),
            (
                "over 2",
                {
                    unsafe $0.flags = UInt32(POSTCOPY_PRECOPY)
                    unsafe $0.downtime_limit = 3_000_000_000_000
                }
            ),
            (
                "throttle",
                {
                    unsafe $0.flags = UInt32(POSTCOPY_PRECOPY | POSTCOPY_AUTO_CONVERGE)
                    unsafe $0.throttle_initial = 100
                }
            ),
            ("is NULL", { unsafe $0.recovery_address_count = 1 }),
            ("over 64", { unsafe $0.recovery_address_count = 65 }),
            ("reserved", { unsafe $0.reserved = 1 }),
        ]
        for index in unsafe cases.indices {
            let (says, change) = unsafe cases[index]
            #expect {
                _ = try unsafe SourceSide(guest, change)
            } throws: { error in
                "\(error)".contains(says)
            }
        }
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }

    @Test("an address that is none is refused, and what is asked for is not begun")
    func addresses() throws {
        let guest = try CountingGuest()
        let source = unsafe try SourceSide(guest)
        for address in ["", "tcp:", "tcp:host", "udp:host:1", "tcp:host:70000", "unix:"] {
            let answer = source.start(to: address)
            #expect(answer.code == POSTCOPY_CHANNEL, "\(address): \(answer)")
        }
        let none = unsafe source.error.of { unsafe postcopy_source_start(source.handle, nil, $0) }
        #expect(none.code == POSTCOPY_INVALID_ARGUMENT, "\(none)")
        #expect(source.wait().code == POSTCOPY_WRONG_STATE)
        #expect(source.free().code == POSTCOPY_OK)
        #expect(unsafe postcopy_ram_free(guest.ram, nil) == POSTCOPY_OK)
    }
}
