internal import Foundation
internal import Glibc
internal import Parking
internal import Postcopy
internal import Synchronization

/// A side of a migration that somebody may steer from outside. Called from the control thread: nothing
/// here waits for the link.
protocol ControlledSide: Sendable {
    var standing: Standing { get }
    /// Where a destination waits for its source.
    var listensAt: ChannelAddress? { get }
    /// - Returns: whether there is no link now until somebody asks for one, or soon.
    func pause() -> Bool
    /// - Throws: `ChannelError` where a destination cannot listen.
    func recover(at addresses: [ChannelAddress]) throws -> Bool
    func abandon() -> Bool
    /// `nil` at a destination.
    var limits: MigrationLimits? { get }
    /// - Throws: `ConfigurationError` for limits that cannot be.
    /// - Returns: whether this side has limits.
    func setLimits(_ change: LimitChange) throws -> Bool
}

extension ControlledSide {
    var listensAt: ChannelAddress? { nil }
    var limits: MigrationLimits? { nil }
    func setLimits(_ change: LimitChange) throws -> Bool { false }
}

/// Answers what is asked of this process's migration, from before it exists until it has ended.
final class ControlDesk: Sendable {
    /// What does not change while it runs, but for a child that is started.
    struct Facts: Sendable {
        let command: String
        let side: Standing.Side
        var isChild = false
        var destinationPid: Int32?
        var destinationControl: String?
    }

    private let facts: Mutex<Facts>
    private let current = Mutex<(any ControlledSide)?>(nil)

    init(_ facts: Facts) { self.facts = Mutex(facts) }

    /// The migration exists from now on.
    func put(_ side: any ControlledSide) { current.withLock { $0 = side } }

    func noteDestination(pid: Int32, control: String?) {
        facts.withLock { facts in
            facts.destinationPid = pid
            facts.destinationControl = control
        }
    }

    /// Answers one line, whatever stands in it.
    func answer(_ line: [UInt8]) -> ControlAnswer {
        let request: ControlRequest
        do { request = try ControlRequest(decoding: Data(line)) } catch {
            return refusal(
                "the line is no JSON object with a command, such as {\"command\":\"status\"}")
        }
        guard let command = ControlRequest.Command(rawValue: request.command) else {
            let known = ControlRequest.Command.allCases.map(\.rawValue).joined(separator: ", ")
            return refusal("there is no command '\(request.command.prefix(40))'; known: \(known)")
        }
        let uris = (request.uris ?? []) + [request.uri].compactMap(\.self)
        let problem: String?
        do { problem = try obey(command, uris, request.limits) } catch { problem = "\(error)" }
        if let problem { return refusal(problem) }
        return described(ControlAnswer(ok: true))
    }

    /// Answers why it cannot be; `nil` when it is done.
    private func obey(
        _ command: ControlRequest.Command, _ uris: [String], _ limits: LimitChange?
    ) throws -> String? {
        if command == .status { return nil }
        guard let side = current.withLock({ $0 }) else {
            return "the migration has not begun, so there is nothing to \(command.rawValue)"
        }
        guard uris.isEmpty || command == .recover else {
            return "\(command.rawValue) takes no URI"
        }
        let status = side.standing.status
        switch command {
        case .status: return nil
        case .pause:
            if side.pause() { return nil }
            return Self.notPausable(status)
        case .recover:
            let addresses = try uris.map { try ChannelAddress(parsing: $0) }
            // Before a listener is made for nothing.
            guard side.standing.isPaused, try side.recover(at: addresses) else {
                return Self.notPaused(status)
            }
            return nil
        case .abandon: return side.abandon() ? nil : Self.notPaused(status)
        case .limit: return try limit(side, limits ?? LimitChange())
        }
    }

    private func limit(_ side: any ControlledSide, _ change: LimitChange) throws -> String? {
        guard !change.isEmpty else {
            return "it names no limit, such as {\"max-bandwidth\":100000000} or {\"max-bandwidth\":"
                + "\"none\"}"
        }
        switch side.standing.status {
        case .completed, .failed, .cancelled: return "the migration has ended"
        default: break
        }
        guard try side.setLimits(change) else {
            return "limits are the source's, and this is the destination"
        }
        return nil
    }

    private static func notPausable(_ status: MigrationStatus) -> String {
        switch status {
        case .postcopyRecover:
            "a QEMU is coming back, and may not survive the end of that link: ask again when it has"
        case _ where status.isAfterSwitch: "there is no link to end: the migration is \(status)"
        default: "the guest has not moved (\(status)): only what has moved can be paused"
        }
    }

    private static func notPaused(_ status: MigrationStatus) -> String {
        "the migration is not paused: it is \(status)"
    }

    private func refusal(_ reason: String) -> ControlAnswer { described(.failed(reason)) }

    private func described(_ answer: ControlAnswer) -> ControlAnswer {
        var answer = answer
        let facts = facts.withLock { $0 }
        answer.pid = getpid()
        answer.command = facts.command
        answer.side = facts.side.rawValue
        answer.status = MigrationStatus.none.rawValue
        answer.isChild = facts.isChild ? true : nil
        answer.destinationPid = facts.destinationPid
        answer.destinationControl = facts.destinationControl
        if let side = current.withLock({ $0 }) {
            answer.take(side.standing)
            answer.listensAt = side.listensAt.map { "\($0)" }
            answer.limits = side.limits.map(LimitFigures.init)
        }
        return answer
    }
}

/// A source that is steered; its addresses are tried by itself.
struct ControlledSource: ControlledSide {
    let migration: MigrationSource

    var standing: Standing { Standing(migration.progress) }
    func pause() -> Bool { migration.pause() }
    func abandon() -> Bool { migration.abandon() }
    var limits: MigrationLimits? { migration.limits }

    func setLimits(_ change: LimitChange) throws -> Bool {
        try migration.setLimits { change.apply(to: &$0) }
        return true
    }

    func recover(at addresses: [ChannelAddress]) throws -> Bool {
        for address in addresses { try address.checkIsTarget() }
        return migration.recover(at: addresses)
    }
}

/// A destination that is steered.
struct ControlledDestination: ControlledSide {
    let migration: any SteeredDestination
    private let place: ListeningPlace

    init(migration: any SteeredDestination, at address: ChannelAddress) {
        self.migration = migration
        place = ListeningPlace(address)
    }

    var listensAt: ChannelAddress? { place.address }
    var standing: Standing { Standing(migration.progress) }
    func pause() -> Bool { migration.pause() }
    func abandon() -> Bool { migration.abandon() }

    func recover(at addresses: [ChannelAddress]) throws -> Bool {
        guard addresses.count <= 1 else {
            throw Refusal.usage("a destination listens at one place: give one URI, or none")
        }
        // Where it listens it could not listen a second time.
        guard let address = addresses.first, address != place.address else {
            return migration.recover(on: nil)
        }
        let listener = try Listener(at: address)
        let taken = listener.address
        guard migration.recover(on: listener) else { return false }
        place.move(to: taken)
        return true
    }
}

/// Where a destination listens, which its recovery may change.
private final class ListeningPlace: Sendable {
    private let current: Mutex<ChannelAddress>

    init(_ address: ChannelAddress) { current = Mutex(address) }

    var address: ChannelAddress { current.withLock { $0 } }

    func move(to address: ChannelAddress) { current.withLock { $0 = address } }
}

/// What the destinations of a workload and of a parked machine have in common.
protocol SteeredDestination: Sendable {
    var progress: DestinationProgress { get }
    func pause() -> Bool
    func recover(on listener: consuming Listener?) -> Bool
    func abandon() -> Bool
}

extension MigrationDestination: SteeredDestination {}

extension ParkingDestination: SteeredDestination {}
