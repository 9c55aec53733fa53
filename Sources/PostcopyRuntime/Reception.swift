public import LinuxKernel
internal import PageModel
public import StreamWire
internal import Synchronization

/// A source that has connected and said what guest it has.
public struct IncomingStream: ~Copyable, Sendable {
    /// The guest, in the source's own words.
    public let introduction: StreamIntroduction
    /// Where its other channels will connect.
    let door: Door
    /// What was read of it is read again by whoever knows the guest's blocks.
    let main: Arrival
}

/// Why a source's guest cannot be taken, before anything was made for it.
public enum ReceptionError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Nobody can be taken in.
    case channel(ChannelError)
    /// What came is no migration.
    case wire(WireError)
    /// The link broke.
    case link(Errno)
    /// The source did not say in time what it has.
    case silent(milliseconds: UInt64)
    /// The source is a QEMU that has postcopy off.
    case postcopyOff

    public var description: String {
        switch self {
        case .channel(let error): "\(error)"
        case .wire(let error): "the source broke the protocol: \(error)"
        case .link(let error): "the link to the source failed: \(error)"
        case .silent(let milliseconds):
            "the source connected and did not say within \(milliseconds) ms what guest it has"
        case .postcopyOff:
            "the source has postcopy-ram off: turn it on there before migrating "
                + "(migrate_set_capability postcopy-ram on)"
        }
    }
}

/// Waits for a source and learns from its own words what guest it has, so that a guest can be taken
/// that nobody has configured here.
public final class Reception: Sendable {
    private let flag: EventFlag
    private let isCancelled = Atomic(false)

    /// A wait that has not begun.
    public init() throws(Errno) { flag = try EventFlag() }

    /// Ends a wait.
    public func cancel() {
        isCancelled.store(true, ordering: .releasing)
        flag.raise()
    }

    /// Takes the first connection. Blocking: until the source has listed its RAM blocks; for ever
    /// before it connects, and for `options.silenceNanosecondsMax` from then on.
    /// - Returns: `nil` once cancelled.
    public func wait(
        on listener: consuming Listener, options: MigrationOptions
    ) throws(ReceptionError) -> IncomingStream? {
        var door = Door(listener, options)
        guard let main = awaitSource(&door) else { return nil }
        let deadline = Monotonic.deadline(afterNanoseconds: options.silenceNanosecondsMax)
        var buffer = ReceiveBuffer(capacityBytes: StreamIntroduction.lengthBytesMax + 1)
        buffer.append(main.opening)
        while true {
            let introduction = try buffer.withBytes { bytes throws(ReceptionError) in
                try Self.introduction(in: bytes)
            }
            guard let introduction else {
                guard try fill(&buffer, from: main.socket.socket, until: deadline, options)
                else { return nil }
                continue
            }
            guard introduction.pageSizeSummary != nil else { throw .postcopyOff }
            return IncomingStream(
                introduction: introduction, door: door,
                main: Arrival(main.socket, opening: buffer.bytes))
        }
    }

    private static func introduction(
        in bytes: Span<UInt8>
    ) throws(ReceptionError) -> StreamIntroduction? {
        do throws(WireError) {
            guard
                case .item(let introduction, _) = try StreamIntroduction.decode(
                    bytes, basePage: HostMemory.pageSize)
            else { return nil }
            return introduction
        } catch { throw .wire(error) }
    }

    /// Waits for somebody who begins a migration; `nil` once cancelled.
    private func awaitSource(_ door: inout Door) -> Arrival? {
        while !isCancelled.load(ordering: .acquiring) {
            var poller = Poller(capacity: 1 + Door.watchedMax)
            poller.watch(flag)
            let places = door.watch(in: &poller)
            _ = poller.wait(timeoutNanoseconds: door.limit(.max))
            for visitor in door.take(poller, places) {
                switch visitor {
                case .migration(let arrival), .other(let arrival), .bitmapRequest(let arrival):
                    return arrival
                case .hello(_, let arrival):
                    arrival.refuse(.stranger, reason: "no migration is paused here")
                }
            }
        }
        return nil
    }

    /// Receives more; `false` once cancelled.
    private func fill(
        _ buffer: inout ReceiveBuffer, from main: borrowing StreamSocket, until deadline: UInt64,
        _ options: MigrationOptions
    ) throws(ReceptionError) -> Bool {
        var poller = Poller(capacity: 2)
        poller.watch(flag)
        let input = poller.watch(main)
        while !isCancelled.load(ordering: .acquiring) {
            let now = Monotonic.now()
            guard now < deadline else {
                throw .silent(milliseconds: options.silenceNanosecondsMax / 1_000_000)
            }
            _ = poller.wait(timeoutNanoseconds: deadline - now)
            guard poller.isReady(input) else { continue }
            let received: Int?
            do throws(Errno) { received = try buffer.fill(from: main, wait: false) } catch {
                throw .link(error)
            }
            guard let received else { continue }
            guard received > 0 else {
                throw .wire(
                    WireError(kind: .truncated(reading: .head), position: UInt64(buffer.count)))
            }
            return true
        }
        return false
    }
}
