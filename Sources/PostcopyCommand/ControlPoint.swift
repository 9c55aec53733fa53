internal import ArgumentParser
internal import Glibc
internal import Postcopy

/// Where a running migration can be steered.
struct ControlOptions: ParsableArguments {
    @Option(
        help: """
            Where 'postcopy status', pause, recover, abandon and limit reach it: a unix socket. \
            (default: found by the process id, in the folder that \(ControlPlace.folderVariable) names, or \
            one of this user's)
            """)
    var control: String?
}

/// The control socket of this process, and how it is named on a command line.
struct ControlPoint: Sendable {
    let desk: ControlDesk
    /// What follows `postcopy recover`: `--pid 123`.
    let name: String
    /// `nil` when none could be made, and there is nobody to recover it by hand.
    let path: String?

    /// - Parameter parent: how the process is named that started this one.
    /// - Throws: `Refusal` when the socket that was asked for cannot be.
    init(
        _ options: ControlOptions, _ facts: ControlDesk.Facts, parent: String? = nil,
        console: Console, leftovers: Leftovers
    ) throws {
        var facts = facts
        facts.isChild = parent != nil
        let desk = ControlDesk(facts)
        self.desk = desk
        let own = options.control.map { "--control \(ShellWord.quoted($0))" } ?? "--pid \(getpid())"
        name = parent.map { "\($0) --side destination" } ?? own
        do {
            let path = try options.control ?? ControlPlace.ownPath()
            let server = try ControlServer(at: path, desk: desk)
            leftovers.add { server.end() }
            self.path = path
        } catch {
            guard options.control == nil else {
                throw Refusal.environment("--control: \(error)")
            }
            console.note("no control socket, so nobody can steer this: \(error)")
            path = nil
        }
    }

    func command(_ word: ControlRequest.Command, _ argument: String = "") -> String {
        "'postcopy \(word.rawValue) \(name)\(argument)'"
    }
}

/// A word for somebody to type into a shell.
enum ShellWord {
    static func quoted(_ word: String) -> String {
        let plain = word.allSatisfy { character in
            character.isASCII
                && (character.isLetter || character.isNumber || "/._-+:@%".contains(character))
        }
        guard !plain || word.isEmpty else { return word }
        return "'"
            + word.split(separator: "'", omittingEmptySubsequences: false)
            .joined(separator: "'\\''") + "'"
    }
}
