internal import ArgumentParser
internal import Foundation
internal import Postcopy

/// Which running migration is meant.
struct ControlTarget: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: "The process that is meant. (default: the only one of this user)")
    var pid: Int32?

    @Option(help: "The control socket of the process that is meant, as '--control' named it there.")
    var control: String?

    @Option(
        help: """
            Which side of it: \(Choices.text(Standing.Side.self)). (default: the one that the process \
            is, and the source of a 'postcopy run')
            """,
        transform: Choices.parser(Standing.Side.self, "side"))
    var side: Standing.Side?

    /// - Throws: `Refusal` when it is not there, or does not do it.
    func ask(_ request: ControlRequest) throws -> ControlAnswer {
        let path = try locate()
        let answer = try ControlCall.ask(request, at: try onSide(path))
        guard answer.ok else {
            throw Refusal.environment(
                "\(answer.place): \(answer.error ?? "no reason is known")")
        }
        return answer
    }

    /// Where the process that is meant listens.
    private func locate() throws -> String {
        if let control {
            guard pid == nil else {
                throw Refusal.usage("--pid and --control name the same thing: give one of them")
            }
            return control
        }
        if let pid { return try path(of: pid) }
        let found = Self.survey()
        let running = found.running
        if !found.silent.isEmpty {
            let silent = found.silent.map { "process \($0) does not answer" }
            let list = (silent + running.map(\.answer.place)).joined(separator: "; ")
            throw Refusal.environment("\(list): say which is meant by --pid")
        }
        if let only = running.first, running.count == 1 { return only.path }
        guard running.isEmpty else {
            let list = running.map(\.answer.place).joined(separator: "; ")
            throw Refusal.environment("several migrations run: \(list): say which by --pid")
        }
        throw Refusal.environment(
            "no migration of this user runs here, or it was started with --control: name that")
    }

    private func path(of pid: Int32) throws -> String {
        let found = ControlPlace.sockets().filter { $0.pid == pid }.map(\.path)
        if let path = found.first(where: { ControlCall.state(of: $0) == .open }) { return path }
        for path in found { ControlPlace.clear(path, of: pid) }
        throw Refusal.environment(
            found.isEmpty
                ? "process \(pid) is no migration of this user: it has ended, or was started with "
                    + "--control: name that"
                : "process \(pid) was a migration, and has ended")
    }

    /// The socket of the side that is meant.
    private func onSide(_ path: String) throws -> String {
        guard let side else { return path }
        let answer = try ControlCall.ask(ControlRequest(.status), at: path)
        if answer.side == side.rawValue { return path }
        guard side == .destination, answer.destinationPid != nil else {
            throw Refusal.environment(
                "\(answer.place) has no \(side.rawValue): that is another process")
        }
        guard let other = answer.destinationControl else {
            throw Refusal.environment("the destination of \(answer.place) has no control socket")
        }
        return other
    }

    /// What is found where control sockets are.
    struct Survey {
        /// Those that answer, without those that another one answers for.
        var running: [(path: String, answer: ControlAnswer)] = []
        /// Those that listen and do not answer: they are stopped, perhaps, and may be meant.
        var silent: [Int32] = []
    }

    /// Asks all of this user's; what was left by those that are gone is removed.
    static func survey(
        _ sockets: [(pid: Int32, path: String)] = ControlPlace.sockets(),
        withinNanoseconds limit: UInt64 = ControlCall.answerNanoseconds
    ) -> Survey {
        var survey = Survey()
        for (pid, path) in sockets {
            guard ControlCall.state(of: path) == .open else {
                ControlPlace.clear(path, of: pid)
                continue
            }
            let answer = try? ControlCall.ask(
                ControlRequest(.status), at: path, withinNanoseconds: limit)
            if let answer {
                survey.running.append((path, answer))
            } else if ControlCall.state(of: path) == .open {
                survey.silent.append(pid)
            }
        }
        let children = survey.running.compactMap(\.answer.destinationPid)
        survey.silent.removeAll { children.contains($0) }
        survey.running.removeAll { $0.answer.isChild == true }
        return survey
    }
}

extension ControlAnswer {
    /// The process in one piece of a line.
    var place: String {
        let number = pid.map { "process \($0)" } ?? "the process"
        let words = [command, status].compactMap(\.self).joined(separator: ", ")
        return words.isEmpty ? number : "\(number) (\(words))"
    }
}
