import Glibc
import Postcopy

/// A virtual machine over `/dev/kvm` that migrates while it runs.
///
///     swift run kvm run --times 3 --breaks 1  # from machine to machine, in one process
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
            switch (command.verb, command.address) {
            case ("send", .some(let address)): try send(command, to: address)
            case ("receive", .some(let address)): try receive(command, on: address)
            default: try run(command)
            }
        } catch {
            print("kvm: \(error)")
            exit(1)
        }
    }

    /// Moves a guest from machine to machine.
    private static func run(_ command: Command) throws {
        var machine = try command.startMachine()
        for turn in 1...command["--times"] {
            let next = try FlatMachine(memoryBytes: command.memoryBytes)
            let (sent, received) = try Crossing.move(machine, to: next, breaks: command["--breaks"])
            print("migration \(turn)\n\(Crossing.text(of: sent))\n\(Crossing.text(of: received))")
            machine.end()
            machine = next
            try judge(machine, received)
            machine.resume()
        }
        machine.end()
    }

    private static func send(_ command: Command, to address: ChannelAddress) throws {
        let machine = try command.startMachine()
        let report = try Crossing.send(machine, to: address, breaks: command["--breaks"])
        print(Crossing.text(of: report))
        machine.end()
        guard report.status == .completed else { throw GuestError("the guest did not arrive") }
    }

    private static func receive(_ command: Command, on address: ChannelAddress) throws {
        let machine = try FlatMachine(memoryBytes: command.memoryBytes)
        let destination = try MigrationDestination(guest: machine, options: Crossing.options())
        let listener = try Listener(at: address)
        print("waiting at \(listener.address)")
        fflush(nil)
        let report = try destination.run(on: listener)
        print(Crossing.text(of: report))
        try judge(machine, report)
        machine.end()
    }

    /// Compares every byte with what it must be, before the guest has seen most of it; then lets each
    /// vCPU look at all of its memory, and hears what it says.
    private static func judge(_ machine: FlatMachine, _ report: DestinationReport) throws {
        guard report.status == .completed else { throw GuestError("the guest did not arrive") }
        machine.pause()
        let wrong = try machine.wrongPages()
        machine.resume()
        try machine.awaitRounds(2)
        machine.pause()
        for (number, said) in machine.said.enumerated() {
            print("  vcpu\(number) says after \(said.lines) rounds: \(said.lastLine)")
        }
        let pages = machine.memory.reduce(0) { $0 + $1.geometry.targetPageCount }
        print("  model: \(pages) pages compared, \(wrong.count) wrong")
        let complaint = machine.said.first { $0.complaints > 0 }?.lastComplaint
        guard wrong.isEmpty, complaint == nil else {
            throw GuestError("lost: word at \(complaint ?? 0), pages \(wrong.prefix(9))")
        }
    }
}

/// What the command line asks for.
struct Command {
    private(set) var verb = ""
    private(set) var address: ChannelAddress?
    private var numbers = ["--vcpus": 2, "--memory": 64, "--times": 1, "--breaks": 0]

    init(_ arguments: ArraySlice<String>) throws {
        var (words, rest) = ([String](), arguments)
        while let word = rest.popFirst() {
            let isOption = numbers[word] != nil
            if isOption { numbers[word] = rest.popFirst().flatMap { Int($0) } ?? -1 }
            if !isOption { words.append(word) }
        }
        // With less memory a vCPU has too few pages for a pattern; each half is at most a GiB.
        guard words == ["run"] || words.count == 2 && ["send", "receive"].contains(words[0]),
            1...4 ~= self["--vcpus"], 2...2048 ~= self["--memory"], self["--times"] > 0,
            self["--breaks"] >= 0
        else {
            throw GuestError(
                "run|send URI|receive URI --vcpus 1-4 --memory 2-2048 --times --breaks")
        }
        verb = words[0]
        if words.count > 1 { address = try ChannelAddress(parsing: words[1]) }
    }

    subscript(option: String) -> Int { numbers[option] ?? -1 }
    var memoryBytes: UInt64 { UInt64(self["--memory"]) << 20 }

    /// A machine that has been through all of its memory.
    func startMachine() throws -> FlatMachine {
        let machine = try FlatMachine(memoryBytes: memoryBytes)
        try machine.boot(vcpus: self["--vcpus"], idleTurns: 10_000)
        machine.resume()
        try machine.awaitRounds(1)
        return machine
    }
}
