internal import LinuxKernel

/// How every channel of a migration is set up, at both ends.
///
/// What lies in socket buffers is latency: a fault in a page that is already on its way waits until
/// everything before it was placed, and on a shared link an urgent page waits behind it too.
enum ChannelTuning {
    /// In each direction and at each end. Measured over loopback with the background at full rate:
    /// megabytes (what the kernel grows to by itself) put the 99th percentile of a fault above 2 ms,
    /// 128 KiB below 0.5 ms; 64 KiB and less lose throughput.
    private static let bufferBytes: Int32 = 128 << 10
    /// Of that, what may wait on the sending host for the wire.
    private static let unsentBytes: Int32 = 32 << 10
    /// Pages in one background write and in one placing: a core is not given back inside the system
    /// call that copies them, some 40 us for 32 pages.
    static let backgroundPages = 32

    static func prepare(_ socket: borrowing StreamSocket, _ options: MigrationOptions) {
        socket.sendAtOnce()
        socket.boundBuffers(bytes: bufferBytes, unsentBytes: unsentBytes)
        socket.limitWaits(nanoseconds: options.silenceNanosecondsMax)
    }

    /// Four times the limit of silence: only where the kernel knows better than the heartbeats that
    /// nothing arrives, and not before a lost packet had its chances.
    private static let limitsUnacknowledged: UInt64 = 4

    /// The peer writes heartbeats to this channel from here on.
    static func expectHeartbeats(_ socket: borrowing StreamSocket, _ options: MigrationOptions) {
        let limit = options.linkLimitNanoseconds
        socket.limitReceives(nanoseconds: limit)
        socket.limitUnacknowledged(
            nanoseconds: min(
                limit.multipliedReportingOverflow(by: limitsUnacknowledged).partialValue,
                options.silenceNanosecondsMax))
    }
}
