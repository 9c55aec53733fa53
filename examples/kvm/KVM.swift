import Glibc
import Postcopy

/// A virtual machine over `/dev/kvm` that migrates while it runs.
///
///     swift run kvm run --times 3 --break     # from machine to machine in one process
///     swift run kvm receive tcp:0.0.0.0:4444  # a destination ...
///     swift run kvm send tcp:HOST:4444        # ... and its source
@main
enum KVM {
    static func main() {
        do {
            let command = try Command(CommandLine.arguments.dropFirst())
            guard !WorkPlan.image.isEmpty else {
                throw GuestError("the guest is made for x86_64: run this on such a host")
            }
            let machine = try FlatMachine(memoryBytes: command.memoryBytes)
            switch command.verb {
            case .run: try run(machine, command)
            case .send(let address): try send(machine, command, to: address)
            case .receive(let address): try receive(machine, on: address)
            }
        } catch {
            print("kvm: \(error)")
            exit(1)
        }
    }

    /// Moves a guest from machine to machine.
    private static func run(_ first: FlatMachine, _ command: Command) throws {
        var machine = first
        try start(machine, command)
        for turn in 1...command.times {
            let next = try FlatMachine(memoryBytes: command.memoryBytes)
            let (sent, received) = try Crossing.move(machine, to: next, breaks: command.breaks)
            print("migration \(turn)")
            (Crossing.lines(of: sent) + Crossing.lines(of: received)).forEach { print("  " + $0) }
            guard received.status == .completed else { throw GuestError("it did not arrive") }
            machine.end()
            machine = next
            try judge(machine)
            machine.resume()
        }
        machine.end()
    }

    private static func send(
        _ machine: FlatMachine, _ command: Command, to address: ChannelAddress
    ) throws {
        try start(machine, command)
        let source = try MigrationSource(guest: machine, options: Crossing.options())
        let report = try Crossing.run(source, to: address, breaks: command.breaks)
        Crossing.lines(of: report).forEach { print($0) }
        guard report.status == .completed else { throw GuestError("it did not arrive") }
        machine.end()
    }

    private static func receive(_ machine: FlatMachine, on address: ChannelAddress) throws {
        let destination = try MigrationDestination(guest: machine, options: Crossing.options())
        let listener = try Listener(at: address)
        print("waiting at \(listener.address)")
        fflush(nil)
        let report = destination.run(on: listener)
        Crossing.lines(of: report).forEach { print($0) }
        guard report.status == .completed else { throw GuestError("it did not arrive") }
        try judge(machine)
        machine.end()
    }

    /// Lets a guest run until it has been through all of its memory.
    private static func start(_ machine: FlatMachine, _ command: Command) throws {
        try machine.boot(vcpus: command.vcpus, idleTurns: command.idleTurns)
        machine.resume()
        try machine.awaitRounds(1)
    }

    /// Lets each vCPU look at all of its memory, hears what it says, and compares every byte with what
    /// it must be.
    private static func judge(_ machine: FlatMachine) throws {
        try machine.awaitRounds(2)
        machine.pause()
        let wrong = try machine.wrongPages()
        for (number, ports) in machine.ports.enumerated() {
            print("  vcpu\(number) says: \(ports.lastLine)")
        }
        print("  model: \(machine.pageCount) pages compared, \(wrong.count) wrong")
        guard wrong.isEmpty, machine.ports.allSatisfy({ $0.state.complaints == 0 }) else {
            throw GuestError("memory was lost, as at \(wrong.first ?? "no page any more")")
        }
    }
}

/// What the command line asks for.
struct Command {
    enum Verb {
        case run
        case send(ChannelAddress)
        case receive(ChannelAddress)
    }

    private(set) var verb = Verb.run
    private(set) var vcpus = 2
    private(set) var memoryBytes: UInt64 = 64 << 20
    private(set) var idleTurns: UInt64 = 20_000
    private(set) var times = 1
    private(set) var breaks = false

    static let usage = """
        usage: kvm run|send URI|receive URI [--vcpus 1-4] [--memory MIB] [--idle TURNS] [--times N] \
        [--break]
        """

    init(_ words: some Sequence<String>) throws(GuestError) {
        var words = words.makeIterator()
        switch words.next() {
        case "run": verb = .run
        case "send": verb = .send(try Self.address(words.next()))
        case "receive": verb = .receive(try Self.address(words.next()))
        default: throw GuestError(Self.usage)
        }
        while let option = words.next() {
            if option == "--break" {
                breaks = true
                continue
            }
            switch (option, words.next().flatMap { Int($0) }) {
            case ("--vcpus", .some(let count)) where (1...FlatMachine.vcpusMax).contains(count):
                vcpus = count
            // Below, a vCPU has too few pages for a pattern; above, the blocks would meet.
            case ("--memory", .some(let count)) where (2...2048).contains(count):
                memoryBytes = UInt64(count) << 20
            case ("--idle", .some(let turns)) where (1...1_000_000_000).contains(turns):
                idleTurns = UInt64(turns)
            case ("--times", .some(let count)) where count > 0: times = count
            default: throw GuestError("\(option): \(Self.usage)")
            }
        }
    }

    private static func address(_ text: String?) throws(GuestError) -> ChannelAddress {
        do { return try ChannelAddress(parsing: text ?? "") } catch {
            throw GuestError("\(error)")
        }
    }
}
