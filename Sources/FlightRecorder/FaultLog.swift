/// What was recorded of a migration's faults: one side's word, or both.
public struct FaultLog: Hashable, Sendable {
    /// A RAM block that records point into.
    public struct Block: Hashable, Sendable {
        /// Its name on the wire.
        public var name: String
        /// Its length.
        public var lengthBytes: UInt64
        /// The size of its host pages.
        public var hostPageBytes: UInt64

        /// One with these properties.
        public init(name: String, lengthBytes: UInt64, hostPageBytes: UInt64) {
            self.name = name
            self.lengthBytes = lengthBytes
            self.hostPageBytes = hostPageBytes
        }
    }

    /// A status and when it was entered, on the side's own clock.
    public struct Phase: Hashable, Sendable {
        /// QEMU's name of it.
        public var status: String
        /// Nanoseconds of the side's `CLOCK_MONOTONIC`.
        public var at: UInt64

        /// One that was entered at an instant.
        public init(status: String, at: UInt64) {
            self.status = status
            self.at = at
        }
    }

    /// What both sides say.
    public struct Side: Hashable, Sendable {
        /// A report keeps 128, two for each break: enough for a link that breaks all the time.
        static let phasesMax = 4_096

        /// Tells hosts, and their reboots, apart: two sides that agree in it share a clock.
        /// Source: `/proc/sys/kernel/random/boot_id`.
        public var bootID = ""
        /// The statuses that it went through.
        public var phases: [Phase] = []
        /// When it had ended.
        public var endedAt: UInt64 = 0

        /// Nothing said.
        public init() {}
    }

    /// What the destination recorded.
    public struct Destination: Hashable, Sendable {
        /// What both sides say.
        public var side = Side()
        /// When the guest was told to run; 0 when it was not.
        public var guestRunningAt: UInt64 = 0
        /// The threads of the vCPUs, in their order, as the kernel numbers them.
        public var vcpuThreads: [Int32] = []
        /// The names of the threads that waited, as far as they could be read.
        public var threadNames: [Int32: String] = [:]
        /// How long all vCPUs were blocked at once.
        public var overlappedNanoseconds: UInt64 = 0
        /// The waits that have ended, in that order.
        public var waits: [WaitRecord] = []
        /// Older ones that the ring lost.
        public var lostWaits: UInt64 = 0
        /// What was placed, in that order by channel.
        public var placements: [PlacementRecord] = []
        /// Older ones that the rings lost.
        public var lostPlacements: UInt64 = 0

        /// Nothing recorded.
        public init() {}
    }

    /// What the source recorded.
    public struct Source: Hashable, Sendable {
        /// What both sides say.
        public var side = Side()
        /// When the guest was asked to stop; 0 when it was not.
        public var guestStoppedAt: UInt64 = 0
        /// What was done about requests, in the order in which that ended, by thread.
        public var services: [ServiceRecord] = []
        /// Older ones that the rings lost.
        public var lostServices: UInt64 = 0

        /// Nothing recorded.
        public init() {}
    }

    /// The guest's RAM blocks, in the order of the block list.
    public var blocks: [Block] = []
    /// `nil` in the source's own log.
    public var destination: Destination?
    /// `nil` in the destination's own log.
    public var source: Source?

    /// Nothing recorded.
    public init() {}
}
