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

    /// The peer writes heartbeats to this channel from here on. What the kernel knows of a host that
    /// acknowledges nothing stays the backstop, at the limit of silence: it would also end a connection
    /// whose reader is busy for a while, and the heartbeats judge better.
    static func expectHeartbeats(_ socket: borrowing StreamSocket, _ options: MigrationOptions) {
        socket.limitReceives(nanoseconds: options.linkLimitInForce)
    }
}
