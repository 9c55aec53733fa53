internal import CShims
public import PageModel

/// When threads of this process ran into their latest page faults, by the kernel's own clock.
///
/// The kernel samples every fault of each thread (`perf_event_open`, `PERF_COUNT_SW_PAGE_FAULTS`) into
/// memory where the newest record overwrites the oldest: a thread that sleeps in a fault has that fault as
/// its newest record, and it is found without a system call. A sample is taken less than a microsecond
/// after the access.
///
/// It is not free: the kernel takes the event out and in whenever the thread sleeps and runs, which adds
/// two to three microseconds to a fault (measured in a virtual machine of two cores), and it announces
/// every 256th sample, which nobody waits for, at the cost of some twenty.
///
/// What KVM faults on behalf of a vCPU (`get_user_pages`) raises no such event, nor does a thread beyond
/// the kernel's limit of samples (`kernel.perf_event_max_sample_rate`): the answer is `nil` then.
/// Threads: one owner.
public struct FaultClock: ~Copyable, Sendable {
    /// As many as a guest's waits that can be open at once. 12 KiB each, 12 MiB in all.
    public static let threadsMax = 1024

    /// Two pages: one sample is read, and 256 fit.
    private static let dataBytes = 2 * HostMemory.pageSize.bytes

    /// By thread, where its samples are mapped.
    private var mappings: [Int32: UInt64] = [:]
    /// How many threads could not be timed that live.
    private var untimedCount = 0
    /// Why the first of those could not.
    public private(set) var refusal: FaultClockRefusal?

    /// A clock of these threads of this process, by the kernel's ids.
    public init(threads: [Int32] = []) {
        mappings.reserveCapacity(min(threads.count, FaultClock.threadsMax))
        for thread in threads { add(thread: thread) }
    }

    deinit {
        // SAFETY: each was mapped with this length and is unmapped once; nobody else has its address.
        for mapping in mappings.values {
            _ = pc_unmap(mapping, HostMemory.pageSize.bytes + FaultClock.dataBytes)
        }
    }

    /// Times one more thread from its next fault on; one that has ended, or is timed, is passed over.
    ///
    /// Where the kernel refuses, the thread stays untimed, and `summary` says why.
    public mutating func add(thread: Int32) {
        guard thread > 0, mappings[thread] == nil else { return }
        do throws(FaultClockRefusal) {
            guard mappings.count < FaultClock.threadsMax else {
                throw FaultClockRefusal(cause: .tooManyThreads, error: .noSpace)
            }
            guard let mapping = try Self.sample(thread) else { return }
            mappings[thread] = mapping
        } catch {
            untimedCount += 1
            if refusal == nil { refusal = error }
        }
    }

    /// When `thread` ran into the fault in which it sleeps, in nanoseconds of `CLOCK_MONOTONIC`.
    ///
    /// `nil` when that is not known: nobody times the thread, or its latest fault was not at one of
    /// `addresses`, or not before `instant`.
    public func began(
        thread: Int32, in addresses: Range<HostAddress>, before instant: UInt64
    ) -> UInt64? {
        guard let mapping = mappings[thread] else { return nil }
        var fault = pc_perf_fault()
        // SAFETY: the mapping is this clock's for as long as it lives, and of this size.
        let isKnown = unsafe pc_perf_newest_fault(
            mapping, HostMemory.pageSize.bytes, FaultClock.dataBytes, &fault)
        guard isKnown == 1, fault.thread == thread, fault.time < instant,
            addresses.contains(HostAddress(rawValue: fault.address))
        else { return nil }
        return fault.time
    }

    /// How much it knows, for reports.
    public var summary: FaultClockSummary {
        FaultClockSummary(
            timedThreads: mappings.count, untimedThreads: untimedCount, refusal: refusal)
    }

    /// Where the samples of a thread are, or `nil` when it has ended.
    private static func sample(_ thread: Int32) throws(FaultClockRefusal) -> UInt64? {
        var answer = pc_perf_open_faults(thread, 1)
        if let error = refusal(answer), error == .accessDenied || error == .notPermitted {
            // Without privilege only faults of user mode are told.
            answer = pc_perf_open_faults(thread, 0)
        }
        if let error = refusal(answer) {
            guard error != .noSuchProcess else { return nil }
            throw .opening(error)
        }
        // The mapping holds what is sampled; a descriptor for each thread would be held for nothing.
        let descriptor = FileDescriptor(owning: answer)
        let address = pc_perf_map(descriptor.raw, HostMemory.pageSize.bytes, dataBytes)
        do throws(Errno) {
            return UInt64(try Errno.check(address))
        } catch { throw .mapping(error) }
    }

    private static func refusal(_ answer: Int32) -> Errno? {
        answer < 0 ? Errno(rawValue: -answer) : nil
    }
}

/// How much a `FaultClock` knows.
public struct FaultClockSummary: Equatable, Sendable, CustomStringConvertible {
    /// Threads whose faults the kernel times.
    public let timedThreads: Int
    /// Threads that live and are not timed.
    public let untimedThreads: Int
    /// Why the first of those is not.
    public let refusal: FaultClockRefusal?

    public var description: String {
        let timed = "the kernel times the faults of \(timedThreads) threads"
        guard let refusal else { return timed }
        return "\(timed), and not of \(untimedThreads): \(refusal)"
    }
}
