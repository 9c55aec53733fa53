internal import ArgumentParser
internal import Foundation
internal import Postcopy

/// `postcopy pause`: ends the link on purpose.
struct PauseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract:
            "Ends the link of a migration whose workload has moved, until 'postcopy recover'.",
        discussion: "One that has paused already tries nothing by itself any more.")

    @OptionGroup var target: ControlTarget

    func run() throws {
        let answer = try target.ask(ControlRequest(.pause))
        print("\(answer.place) pauses until 'postcopy recover'")
    }
}

/// `postcopy recover`: tries a link again.
struct RecoverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recover",
        abstract: "Has a paused migration come back.",
        discussion: """
            A source tries the URIs in turn, or where the destination was. A destination listens at \
            the URI, or where it did. 'postcopy status' says how it goes.
            """)

    @Argument(
        help: "Where the destination is now, or shall listen: tcp:HOST:PORT or unix:PATH.",
        transform: ChannelAddress.init(parsing:))
    var uris: [ChannelAddress] = []

    @OptionGroup var target: ControlTarget

    func run() throws {
        let answer = try target.ask(
            ControlRequest(.recover, uris: uris.map { "\($0)" }))
        print(
            "\(answer.place) "
                + (answer.listensAt.map { "lets its source in at \($0)" } ?? "tries to come back"))
    }
}

/// `postcopy abandon`: gives a paused guest up.
struct AbandonCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "abandon",
        abstract: "Gives the guest of a paused migration up, for good.",
        discussion: """
            The process says what is lost and ends. At a destination the guest's threads find an error \
            where pages are missing.
            """)

    @OptionGroup var target: ControlTarget

    func run() throws {
        let answer = try target.ask(ControlRequest(.abandon))
        print("\(answer.place) gives the guest up")
    }
}

/// `postcopy status`: where a migration stands.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Says where a running migration stands, what is missing, and who is waited for.")

    @OptionGroup var target: ControlTarget

    @Flag(help: "Prints it as JSON.")
    var json = false

    func run() throws {
        let answer = try target.ask(ControlRequest(.status))
        StandardStream.output.write(
            json ? String(decoding: answer.encoded(), as: UTF8.self) : StatusText(answer).text)
    }
}

/// The answer as people read it.
struct StatusText {
    let answer: ControlAnswer

    init(_ answer: ControlAnswer) { self.answer = answer }

    var text: String {
        let rows = rows
        let width = rows.map(\.label.count).max() ?? 0
        return rows.map { "\(TextColumns.left($0.label, width))  \($0.value)\n" }.joined()
    }

    private var rows: [(label: String, value: String)] {
        var rows: [(label: String, value: String)] = []
        func add(_ label: String, _ value: String?) {
            if let value { rows.append((label, value)) }
        }
        add("process", answer.pid.map { "\($0), postcopy \(answer.command ?? "")" })
        add("side", answer.side)
        add("status", answer.status)
        add("owed", answer.owedBytes.map { "\(Readable.bytes($0)) are only here" })
        for block in answer.missing ?? [] { add("missing", block.text) }
        let untold = (answer.breakCount ?? 0) - (answer.breaks ?? []).count
        if untold > 0 { add("break", "and \(untold) before these") }
        for broken in answer.breaks ?? [] { add("break", broken.text) }
        add("last attempt", answer.lastRefusal)
        add("limits", answer.limits?.text)
        add("listens at", answer.listensAt)
        if answer.waitsForSomebody == true {
            add("waits for", "'postcopy recover' or 'postcopy abandon'")
        }
        add(
            "destination",
            answer.destinationPid.map { "process \($0); ask it by --side destination" })
        return rows
    }
}

extension MissingFigures {
    var text: String {
        "block '\(block)' misses \(Readable.count(UInt64(hostPages), "page", "pages")), "
            + Readable.bytes(bytes)
    }
}
