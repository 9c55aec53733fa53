import CPostcopy
import Foundation
import LinuxKernel
import Synchronization
import TestSupport
import Testing

@testable import PostcopyC

/// Pages that functions of C have, and files.
@Suite(.serialized) struct FaultTests {
    /// What the callbacks know, and what they were told.
    final class Pages: Sendable {
        static let count = 32
        /// What `read` answers for a page; `nil`: it fills the page with the page's number.
        let answers = Mutex<[Int: Int32]>([:])
        let lost = Mutex<[(block: UInt32, offset: UInt64, problem: String)]>([])
        /// Done inside of `read`.
        let inside = Mutex<(@Sendable () -> Void)?>(nil)

        static func of(_ context: UnsafeMutableRawPointer?) -> Pages {
            unsafe Unmanaged<Pages>.fromOpaque(context!).takeUnretainedValue()
        }
    }

    /// Memory that is served.
    @safe
    private final class Served {
        let pages = Pages()
        let error = CError()
        private(set) var ram: OpaquePointer?
        private(set) var faults: OpaquePointer?

        /// - Parameter file: where the content is, if not in callbacks.
        init(file: String? = nil) throws {
            var options = unsafe postcopy_ram_options()
            unsafe options.size = MemoryLayout<postcopy_ram_options>.size
            unsafe options.length = UInt64(Pages.count) << 12
            let made = unsafe "served".withCString { name in
                unsafe options.name = name
                return unsafe error.of { unsafe postcopy_ram_create(&options, &ram, $0) }
            }
            try #require(made.code == POSTCOPY_OK, "\(made)")
            let answer: CError.Answer
            if let file {
                answer = unsafe file.withCString { unsafe create($0) }
            } else {
                answer = unsafe create(nil)
            }
            try #require(answer.code == POSTCOPY_OK, "\(answer)")
        }

        private func create(_ file: UnsafePointer<CChar>?) -> CError.Answer {
            var options = unsafe postcopy_faults_options()
            unsafe options.size = MemoryLayout<postcopy_faults_options>.size
            unsafe options.context = Unmanaged.passUnretained(pages).toOpaque()
            unsafe options.ram_count = 1
            unsafe options.fault_origin = UInt32(POSTCOPY_FAULTS_USER_ONLY)
            unsafe options.attempts = 2
            unsafe options.attempt_pause = 1
            unsafe options.background_bytes = 4096
            unsafe options.file = file
            if unsafe file == nil { unsafe options.read = readPage }
            unsafe options.page_lost = { context, page in
                let page = unsafe page!.pointee
                let problem = unsafe String(cString: page.problem)
                let row = unsafe (page.block, page.offset, problem)
                unsafe Pages.of(context).lost.withLock { $0.append(row) }
            }
            return unsafe withUnsafePointer(to: ram) { blocks in
                unsafe options.ram = blocks
                return unsafe error.of { unsafe postcopy_faults_create(&options, &faults, $0) }
            }
        }

        func call(_ body: (OpaquePointer?, OpaquePointer) -> postcopy_code) -> CError.Answer {
            let faults = unsafe faults
            return unsafe error.of { unsafe body(faults, $0) }
        }

        /// The first word of a page, or that nobody answers.
        func word(_ page: Int) throws -> UInt64? {
            let address = unsafe UInt(bitPattern: postcopy_ram_address(ram)) + UInt(page) << 12
            return try Bounded("toucher") {
                unsafe UnsafePointer<UInt64>(bitPattern: address)!.pointee
            }.output()
        }

        var progress: postcopy_faults_progress {
            var progress = postcopy_faults_progress()
            progress.size = MemoryLayout<postcopy_faults_progress>.size
            _ = unsafe call { unsafe postcopy_faults_get_progress($0, &progress, $1) }
            return progress
        }

        func free() {
            unsafe #expect(call { unsafe postcopy_faults_free($0, $1) }.code == POSTCOPY_OK)
            #expect(unsafe postcopy_ram_free(ram, nil) == POSTCOPY_OK)
        }
    }

    @Test(
        "a page has what read filled it with, zeros where it said so, and its error where it failed"
    )
    func serves() throws {
        let served = try Served()
        served.pages.answers.withLock { $0[5] = Int32(POSTCOPY_PAGES_ZERO) }
        unsafe #expect(served.call { unsafe postcopy_faults_start($0, $1) }.code == POSTCOPY_OK)
        #expect(try served.word(3) == 3)
        #expect(try served.word(5) == 0)
        #expect(try served.word(31) == 31)
        let again = unsafe served.call { unsafe postcopy_faults_start($0, $1) }
        #expect(again.code == POSTCOPY_WRONG_STATE, "\(again)")
        let early = unsafe served.call { unsafe postcopy_faults_free($0, $1) }
        #expect(early.code == POSTCOPY_WRONG_STATE, "\(early)")
        #expect(unsafe postcopy_ram_free(served.ram, nil) == POSTCOPY_WRONG_STATE)
        #expect(served.progress.serves == 1)
        unsafe #expect(served.call { unsafe postcopy_faults_fill($0, $1) }.code == POSTCOPY_OK)
        let filled = unsafe served.call { unsafe postcopy_faults_wait_filled($0, patience, $1) }
        #expect(filled.code == POSTCOPY_OK, "\(filled)")
        #expect(served.progress.pages_missing == 0)
        unsafe #expect(served.call { unsafe postcopy_faults_stop($0, $1) }.code == POSTCOPY_OK)
        unsafe #expect(served.call { unsafe postcopy_faults_stop($0, $1) }.code == POSTCOPY_OK)
        #expect(
            try (0..<Pages.count).allSatisfy { try served.word($0) == ($0 == 5 ? 0 : UInt64($0)) })
        #expect(served.progress.serves == 0 && served.progress.latency_max > 0)
        // Counted by then, and not by whoever read the page before.
        #expect(served.progress.pages_urgent == 3)
        served.free()
        let late = unsafe served.call { unsafe postcopy_faults_stop($0, $1) }
        #expect(late.code == POSTCOPY_BAD_HANDLE, "\(late)")
    }

    @Test("one that was freed serves nobody, whoever still holds on to it")
    func heldOn() throws {
        let served = try Served()
        // As a call has it that found the handle just before.
        let held = try unsafe Handles.find(served.faults, as: Faults.self)
        served.free()
        for call in [held.start, held.close] {
            do throws(Failure) {
                try call()
                Issue.record("it was freed")
            } catch { #expect(error.code == POSTCOPY_BAD_HANDLE, "\(error)") }
        }
    }

    @Test("whoever waits for the end of one that was never started goes on when it is freed")
    func neverStarted() throws {
        let served = try Served()
        let handle = unsafe UInt(bitPattern: served.faults)
        let waits = try EventFlag()
        let waiting = try Bounded("waiter") {
            let faults = unsafe OpaquePointer(bitPattern: handle)
            let now = unsafe postcopy_faults_wait_ended(faults, 0, nil)
            waits.raise()
            return (Int(now), Int(unsafe postcopy_faults_wait_ended(faults, .max, nil)))
        }
        #expect(waits.wait(timeoutNanoseconds: patience))
        served.free()
        let (now, then) = try #require(waiting.output(), "it waits for ever")
        #expect(now == POSTCOPY_TIMED_OUT)
        // It may have come after that.
        #expect(then == POSTCOPY_OK || then == POSTCOPY_BAD_HANDLE)
    }

    @Test("an error of read is tried again and then told, in the background too")
    func errors() throws {
        let served = try Served()
        served.pages.answers.withLock { $0[7] = -9 }
        unsafe #expect(served.call { unsafe postcopy_faults_start($0, $1) }.code == POSTCOPY_OK)
        unsafe #expect(served.call { unsafe postcopy_faults_fill($0, $1) }.code == POSTCOPY_OK)
        let filled = unsafe served.call { unsafe postcopy_faults_wait_filled($0, patience, $1) }
        #expect(filled.code == POSTCOPY_TIMED_OUT, "\(filled)")
        let progress = served.progress
        #expect(progress.pages_missing == 1 && progress.read_errors >= 1)
        unsafe #expect(served.call { unsafe postcopy_faults_stop($0, $1) }.code == POSTCOPY_OK)
        #expect(try served.word(6) == 6)
        served.free()
    }

    @Test("what blocks is refused inside of read")
    func reentry() throws {
        let served = try Served()
        let handle = unsafe UInt(bitPattern: served.faults)
        let answers = Mutex<[CError.Answer]>([])
        served.pages.inside.withLock {
            $0 = {
                let error = CError()
                let faults = unsafe OpaquePointer(bitPattern: handle)
                let stop = unsafe error.of { unsafe postcopy_faults_stop(faults, $0) }
                let wait = unsafe error.of {
                    unsafe postcopy_faults_wait_filled(faults, patience, $0)
                }
                answers.withLock { $0 += [stop, wait] }
            }
        }
        unsafe #expect(served.call { unsafe postcopy_faults_start($0, $1) }.code == POSTCOPY_OK)
        #expect(try served.word(1) == 1)
        unsafe #expect(served.call { unsafe postcopy_faults_stop($0, $1) }.code == POSTCOPY_OK)
        let told = answers.withLock { $0 }
        #expect(told.count == 2)
        for answer in told { #expect(answer.code == POSTCOPY_WRONG_STATE, "\(answer)") }
        served.free()
    }

    @Test("pages come from a file, and a trace of them is kept and followed")
    func file() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "postcopy-faults-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: folder) }
        var content = Data(count: Pages.count << 12)
        for page in 0..<Pages.count { content[page << 12] = UInt8(page + 1) }
        let (file, trace) = (
            folder.appending(path: "memory").path, folder.appending(path: "trace").path
        )
        try content.write(to: URL(filePath: file))
        let first = try Served(file: file)
        unsafe #expect(first.call { unsafe postcopy_faults_start($0, $1) }.code == POSTCOPY_OK)
        #expect(try first.word(9) == 10)
        #expect(try first.word(2) == 3)
        let early = unsafe first.call { unsafe postcopy_faults_save_trace($0, trace, $1) }
        #expect(early.code == POSTCOPY_WRONG_STATE, "\(early)")
        unsafe #expect(first.call { unsafe postcopy_faults_stop($0, $1) }.code == POSTCOPY_OK)
        let saved = unsafe first.call { unsafe postcopy_faults_save_trace($0, trace, $1) }
        #expect(saved.code == POSTCOPY_OK, "\(saved)")
        first.free()

        let second = try Served(file: file)
        let none = unsafe second.call { unsafe postcopy_faults_prefetch($0, file, $1) }
        #expect(none.code == POSTCOPY_CONFIGURATION, "\(none)")
        unsafe #expect(second.call { unsafe postcopy_faults_start($0, $1) }.code == POSTCOPY_OK)
        let taken = unsafe second.call { unsafe postcopy_faults_prefetch($0, trace, $1) }
        #expect(taken.code == POSTCOPY_OK, "\(taken)")
        let rest = unsafe second.call { unsafe postcopy_faults_wait_filled($0, patience, $1) }
        #expect(rest.code == POSTCOPY_TIMED_OUT)
        #expect(second.progress.pages_background == 2 && second.progress.faults == 0)
        unsafe #expect(second.call { unsafe postcopy_faults_stop($0, $1) }.code == POSTCOPY_OK)
        second.free()
    }

    @Test("a handler of nothing, of no pages, or of both kinds is refused")
    func refusals() throws {
        let error = CError()
        let cases: [(String, (inout postcopy_faults_options) -> Void)] = unsafe [
            ("sizeof", { unsafe $0.size = 3 }),
            ("either read or file", { unsafe $0.read = nil }),
            ("either ram or regions", { _ in }),
            ("is NULL", { unsafe $0.region_count = 1 }),
            ("over 1024", { unsafe $0.region_count = 5_000 }),
            ("does not know", { unsafe $0.flags = 1 << 20 }),
            ("fault_origin 4", { unsafe $0.fault_origin = 4 }),
        ]
        for index in unsafe cases.indices {
            let (says, change) = unsafe cases[index]
            var options = unsafe postcopy_faults_options()
            unsafe options.size = MemoryLayout<postcopy_faults_options>.size
            unsafe options.read = readPage
            unsafe change(&options)
            var faults: OpaquePointer?
            let answer = unsafe error.of { unsafe postcopy_faults_create(&options, &faults, $0) }
            #expect(answer.code == POSTCOPY_INVALID_ARGUMENT, "\(says): \(answer)")
            #expect(answer.message.contains(says), "\(says): \(answer)")
            #expect(unsafe faults == nil)
        }
    }
}

/// Fills a page as `FaultTests.Pages` says.
private func readPage(
    _ context: UnsafeMutableRawPointer?, _ block: UInt32, _ offset: UInt64,
    _ bytes: UnsafeMutableRawPointer?, _ length: Int, _ why: UnsafeMutablePointer<CChar>?
) -> Int32 {
    let pages = unsafe FaultTests.Pages.of(context)
    pages.inside.withLock { $0 }?()
    let page = Int(offset >> 12)
    if let answer = pages.answers.withLock({ $0[page] }) { return answer }
    guard block == 0, length == 4096, let bytes = unsafe bytes else { return -1 }
    unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0, count: length)
    unsafe bytes.storeBytes(of: UInt64(page), as: UInt64.self)
    return 0
}
