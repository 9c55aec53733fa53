internal import Foundation
internal import Parking
internal import Postcopy
internal import Synchronization

/// Pages of a machine that comes over the network while clients already need them.
final class LivePageSource: PageSource {
    let content: JoinedContent
    private let machine: LiveMachine
    private let watch: Mutex<Watch>
    private let console: Console
    private let thread: Mutex<JoinableThread<DestinationReport>?>
    private let isDone: EventFlag
    private let report = Mutex<DestinationReport?>(nil)

    private struct Watch {
        var pauses: PauseWatch
        var isHereTold = false
        var isWholeTold = false
    }

    /// How long a migration that nobody needs any more may take to notice.
    private static let endNanosecondsMax: UInt64 = 2_000_000_000

    /// Waits for a source and takes its machine in, on a thread of its own.
    /// - Parameter devices: where its device state is kept.
    /// - Throws: `Refusal` with why nobody's machine can be taken.
    init(
        at uri: ChannelAddress, options: MigrationOptions, devices: String?, console: Console,
        leftovers: Leftovers, control: ControlPoint
    ) throws {
        let arrival = try MachineArrival(options: options, console: console).wait(at: uri)
        let stream = OneUse(arrival.stream.take())
        let live: LiveMachine
        let parked: ParkedMachine
        do {
            let taken = stream.take()
            parked = try ParkedMachine(
                describedBy: taken.introduction, origin: "the source at \(arrival.address)")
            live = try LiveMachine(of: parked, options: options) {
                bytes throws(GuestError) in
                try Self.keep(bytes, in: devices)
            }
            stream.put(taken)
        } catch { throw Refusal.environment("\(error)") }
        control.desk.put(ControlledDestination(migration: live, at: arrival.address))
        machine = live
        self.console = console
        watch = Mutex(
            Watch(
                pauses: PauseWatch(
                    mode: options.recovery.mode, name: control.name, isSourceQEMU: true)))
        content = JoinedContent(
            .from, at: "\(arrival.address)", pages: live, lengths: parked.memory.map(\.usedBytes),
            isWhole: { live.progress.status == .completed })
        let done = try EventFlag()
        isDone = done
        var started: JoinableThread<DestinationReport>? = try JoinableThread(name: "pc-arrival") {
            defer { done.raise() }
            return live.run(on: stream.take())
        }
        thread = Mutex(nil)
        thread.withLock { $0 = started.take() }
    }

    /// The source hears of a disk that is full before it forgets anything.
    private static func keep(_ bytes: [UInt8], in path: String?) throws(GuestError) {
        guard let path else { return }
        do {
            try Data(bytes).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch { throw GuestError("--devices \(path): \(PlainReason.of(error))") }
    }

    func look() -> String? {
        let progress = machine.progress
        let lines = watch.withLock { watch in
            var lines = watch.pauses.lines(Standing(progress), at: Monotonic.now())
            if machine.isHere, !watch.isHereTold {
                watch.isHereTold = true
                lines.append("the machine has left its source, and is served from now on")
            }
            if progress.status == .completed, !watch.isWholeTold {
                watch.isWholeTold = true
                lines.append("every page is here: the source may go")
            }
            return lines
        }
        for line in lines { console.insist(line) }
        guard isDone.wait(timeoutNanoseconds: 0) else { return nil }
        guard let ended = join(), ended.status != .completed, !ended.isPausedWithAllPages else {
            return nil
        }
        return "the machine did not come: \(ended.problem ?? "its migration is \(ended.status)")"
    }

    /// One that is paused would end, and its pages with it.
    func cancel() { if !machine.isHere { machine.cancel() } }

    func giveUp() {
        machine.cancel()
        machine.pause()
        machine.abandon()
    }

    /// Where nobody was served and the machine is here, somebody has asked for it twice.
    func end(hasServed: Bool) {
        guard join() == nil else { return }
        let deadline = Monotonic.now() + Self.endNanosecondsMax
        repeat {
            giveUp()
            guard !isDone.wait(timeoutNanoseconds: 50_000_000) else { break }
        } while Monotonic.now() < deadline
        _ = join()
    }

    var machinePlace: MachinePlace {
        if machine.isHere { return .here }
        return isDone.wait(timeoutNanoseconds: 0) ? .elsewhere : .onItsWay
    }

    var isStuck: Bool { report.withLock { $0 } == nil }

    var figures: ArrivalFigures? {
        ArrivalFigures(machine.progress, report.withLock { $0 })
    }

    /// The report, once there is one.
    private func join() -> DestinationReport? {
        guard isDone.wait(timeoutNanoseconds: 0) else { return nil }
        let thread = thread.withLock { $0.take() }
        switch consume thread {
        case .some(let thread):
            let ended = thread.join()
            report.withLock { $0 = ended }
            return ended
        case .none: return report.withLock { $0 }
        }
    }
}

extension LiveMachine: SteeredDestination {}
