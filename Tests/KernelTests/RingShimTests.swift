import CShims
import Glibc
import LinuxKernel
import Testing

/// The operations with buffers, which no module uses yet.
@Suite(
    "Ring shims",
    .enabled(if: (try? Ring(entries: 1)) != nil, "needs io_uring (kernel.io_uring_disabled=0)"))
struct RingShimTests {
    /// A ring and the two ends of a connection.
    @safe private struct Rig: ~Copyable {
        // SAFETY: `ring` is created once and destroyed in `deinit`.
        let ring: OpaquePointer
        let ends: (Int32, Int32)

        init() throws {
            var pair: [Int32] = [-1, -1]
            let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            try #require(unsafe socketpair(AF_UNIX, type, 0, &pair) == 0)
            var created: OpaquePointer? = nil
            try #require(unsafe pc_ring_create(8, &created) == 0)
            unsafe ring = created!
            ends = (pair[0], pair[1])
        }

        deinit {
            unsafe pc_ring_destroy(ring)
            close(ends.0)
            close(ends.1)
        }

        /// Submits and answers the results by slot.
        func results(_ count: UInt32) -> [UInt64: Int32] {
            let limit = HostUnderTest.patienceNanoseconds
            let status = unsafe pc_ring_submit(ring, count, limit)
            #expect(status >= 0)
            var taken = [pc_completion](repeating: pc_completion(), count: 8)
            let reaped = Int(unsafe pc_ring_reap(ring, &taken, 8))
            return Dictionary(
                uniqueKeysWithValues: taken[..<reaped].map { ($0.slot, $0.result) })
        }
    }

    @Test("bytes sent are bytes received, and the end is zero bytes")
    func sendAndReceive() throws {
        let rig = try Rig()
        let sent: [UInt8] = Array(0..<100)
        var received = [UInt8](repeating: 0, count: 100)
        unsafe sent.withUnsafeBytes { out in
            unsafe received.withUnsafeMutableBytes { into in
                let receive = unsafe pc_ring_receive(
                    rig.ring, rig.ends.1, into.baseAddress, into.count, 1)
                let send = unsafe pc_ring_send(
                    rig.ring, rig.ends.0, out.baseAddress, out.count, 2)
                #expect(receive == 0 && send == 0)
                #expect(rig.results(2) == [1: 100, 2: 100])
                shutdown(rig.ends.0, Int32(SHUT_WR))
                let end = unsafe pc_ring_receive(
                    rig.ring, rig.ends.1, into.baseAddress, into.count, 3)
                #expect(end == 0)
                #expect(rig.results(1) == [3: 0])
            }
        }
        #expect(received == sent)
    }

    @Test("sending to a peer that is gone answers EPIPE and raises no signal")
    func peerGone() throws {
        let rig = try Rig()
        shutdown(rig.ends.1, Int32(SHUT_RDWR))
        let byte: [UInt8] = [1]
        unsafe byte.withUnsafeBytes { out in
            let queued = unsafe pc_ring_send(rig.ring, rig.ends.0, out.baseAddress, 1, 4)
            #expect(queued == 0)
            #expect(rig.results(1) == [4: -EPIPE])
        }
    }

    @Test("an eventfd is read through the ring, which lowers it")
    func read() throws {
        let rig = try Rig()
        let raw = pc_eventfd()
        try #require(raw >= 0)
        defer { close(raw) }
        #expect(pc_eventfd_raise(raw) == 0 && pc_eventfd_raise(raw) == 0)
        var count: UInt64 = 0
        unsafe withUnsafeMutablePointer(to: &count) { pointer in
            let queued = unsafe pc_ring_read(rig.ring, raw, pointer, 8, 6)
            #expect(queued == 0)
            #expect(rig.results(1) == [6: 8])
        }
        #expect(count == 2)
        #expect(pc_eventfd_clear(raw) == 0)
    }

    @Test("every operation says when the submission queue is full")
    func full() throws {
        let rig = try Rig()
        for slot in 0..<8 as Range<UInt64> {
            #expect(unsafe pc_ring_poll(rig.ring, rig.ends.0, UInt32(POLLIN), slot) == 0)
        }
        let answers = unsafe [
            pc_ring_read(rig.ring, rig.ends.0, nil, 0, 9),
            pc_ring_receive(rig.ring, rig.ends.0, nil, 0, 9),
            pc_ring_send(rig.ring, rig.ends.0, nil, 0, 9),
            pc_ring_poll(rig.ring, rig.ends.0, 1, 9),
            pc_ring_cancel(rig.ring, 1, 9),
        ]
        #expect(answers == Array(repeating: -EBUSY, count: 5))
    }
}
