import Foundation
import Glibc

/// `postcopy-bench [--only SECTIONS] [--memory-mib N] [--runs N] [--json FILE]`: this code beside the
/// floor of this machine, taking turns.
@main
struct Bench {
    private var sections = Section.allCases
    private var settings = Settings()
    private var json = "bench.json"

    static func main() throws {
        let arguments = CommandLine.arguments
        if arguments.count == 7, arguments[1] == "source" {
            return try Measurement.beSource(Array(arguments.dropFirst()))
        }
        if arguments.count == 5, arguments[1] == "handler" {
            return try HandlerProcess.beHandler(Array(arguments.dropFirst()))
        }
        var bench = Bench()
        bench.parse(Array(arguments.dropFirst()))
        try bench.run()
    }

    private mutating func parse(_ arguments: [String]) {
        var rest = arguments[...]
        while let option = rest.popFirst() {
            let value = rest.popFirst()
            switch (option, value.flatMap { Int($0) }, value) {
            case ("--only", _, .some(let names)):
                let named = names.split(separator: ",").map { Section(rawValue: String($0)) }
                guard !named.isEmpty, !named.contains(nil) else { Self.refuse() }
                sections = Section.allCases.filter(named.contains)
            case ("--memory-mib", .some(let number), _) where (16...65_536).contains(number):
                settings.memoryBytes = UInt64(number) << 20
            case ("--runs", .some(let number), _) where (1...1_000).contains(number):
                settings.runs = number
            case ("--json", _, .some(let path)):
                json = path
            default:
                Self.refuse()
            }
        }
    }

    private static func refuse() -> Never {
        let names = Section.allCases.map(\.rawValue).joined(separator: ",")
        let usage = """
            usage: postcopy-bench [--only \(names)]
                                  [--memory-mib 16...] [--runs 1...] [--json FILE]

            """
        FileHandle.standardError.write(Data(usage.utf8))
        exit(64)
    }

    private func run() throws {
        print("load average before: \(loadAverage())")
        var rows: [Row] = []
        for section in sections {
            print("\n\(section.title(settings))")
            let measured = try section.measure(settings)
            for row in measured { print(row.line) }
            rows += measured
        }
        print("\nload average after: \(loadAverage())")
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(rows).write(to: URL(fileURLWithPath: json), options: .atomic)
        print("rows written to \(json)")
    }

    private func loadAverage() -> String {
        var averages = [Double](repeating: 0, count: 3)
        _ = unsafe getloadavg(&averages, 3)
        return averages.map { two($0) }.joined(separator: " ")
    }
}
