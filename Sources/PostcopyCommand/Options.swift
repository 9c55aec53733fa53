internal import ArgumentParser
internal import Foundation
internal import Postcopy
internal import TestWorkload

/// What the guest's memory is; both sides need the same.
struct MemoryOptions: ParsableArguments {
    @Option(
        parsing: .unconditional, help: "The guest's memory. (default: 256M)",
        transform: ByteCount.init(parsing:))
    var memory = ByteCount(256 << 20)

    @Option(
        help: "Where memory lies: \(Choices.text(RAMBacking.self)). (default: anonymous)",
        transform: Choices.parser(RAMBacking.self, "backing"))
    var backing = RAMBacking.anonymous

    @Option(
        parsing: .unconditional,
        help: "4K, 2M or 1G; the latter two with --backing hugetlb. (default: 4K, or 2M)",
        transform: ByteCount.init(parsing:))
    var pageSize: ByteCount?

    @Flag(help: "Keeps the guest's memory from being swapped out. Allocates all of it.")
    var lockMemory = false
}

/// What a destination does once every page is there.
struct ArrivalOptions: ParsableArguments {
    @Flag(help: "Rebuilds transparent huge pages at the destination once every page is there.")
    var heal = false

    @Flag(
        help: """
            Has waits begin when their faults are read, instead of asking the kernel when they \
            were; two or three microseconds a fault less.
            """)
    var noFaultClock = false
}

/// What the guest does; the source says it and the state tells the destination.
struct WorkloadOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: "Threads that access memory.")
    var vcpus = 2

    @Option(
        help: "How a vCPU walks: \(Choices.text(AccessPattern.self)). (default: uniform)",
        transform: Choices.parser(AccessPattern.self, "pattern"))
    var pattern = AccessPattern.uniform

    @Option(parsing: .unconditional, help: "The share of accesses that write, 0 to 1.")
    var writeFraction = 0.5

    @Option(
        parsing: .unconditional,
        help: "The memory that is accessed at all. (default: half of --memory)",
        transform: ByteCount.init(parsing:))
    var hotSet: ByteCount?

    @Option(
        help: "What memory holds at first: \(Choices.text(InitialFill.self)). (default: random)",
        transform: Choices.parser(InitialFill.self, "fill"))
    var fill = InitialFill.random

    @Option(
        parsing: .unconditional,
        help: "Accesses per second of each vCPU; 0 is as many as it can.")
    var rate: UInt64 = 100_000

    @Option(
        parsing: .unconditional,
        help: "Determines content and accesses. (default: random, and printed)")
    var seed: UInt64?

    /// - Throws: `Refusal` for the first value that no workload can have.
    func specification(memoryBytes: UInt64) throws -> WorkloadSpecification {
        let least = UInt64(max(0, vcpus)) * WorkloadSpecification.pageBytes
        guard hotSet != nil || memoryBytes >= least || vcpus > WorkloadSpecification.vcpuCountMax
        else {
            throw Refusal.usage(
                "--memory \(memoryBytes) has no page for each of \(vcpus) vCPUs: give at least "
                    + "--memory \(least), or fewer --vcpus")
        }
        // Small enough to be exact in every reader of JSON, and to be typed again.
        let seed = seed ?? UInt64.random(in: 0..<1 << 32)
        do throws(WorkloadError) {
            return try WorkloadSpecification(
                seed: seed, vcpuCount: vcpus, pattern: pattern, writeFraction: writeFraction,
                hotSetBytes: hotSet?.bytes ?? defaultHotSet(of: memoryBytes),
                accessesPerSecond: rate, fill: fill, memoryBytes: memoryBytes)
        } catch {
            throw Refusal.usage("--\(error)")
        }
    }

    /// Half of memory in whole pages, but a page for each vCPU where there is one.
    private func defaultHotSet(of memoryBytes: UInt64) -> UInt64 {
        let page = WorkloadSpecification.pageBytes
        let half = memoryBytes / 2 / page * page
        let least = UInt64(min(max(vcpus, 1), WorkloadSpecification.vcpuCountMax)) * page
        return min(memoryBytes, max(half, least))
    }
}

/// When things happen.
struct TimingOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help:
            "How long the workload runs at the source after the connection is made. (default: 500ms)",
        transform: TimeSpan.init(parsing:))
    var warmUp = TimeSpan(nanoseconds: 500_000_000)
}

/// What either side may choose about the link and the end.
struct SideOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help:
            "How long the workload runs on where it stays, before it is verified. (default: 200ms)",
        transform: TimeSpan.init(parsing:))
    var runOn = TimeSpan(nanoseconds: 200_000_000)

    @OptionGroup var link: LinkOptions
    @OptionGroup var recovery: RecoveryChoices
    @OptionGroup var control: ControlOptions
}

/// What either side may choose about the link.
struct LinkOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help:
            "How long the other side may say nothing when it should. (default: 10s)",
        transform: TimeSpan.init(parsing:))
    var silenceLimit = TimeSpan(nanoseconds: MigrationOptions().silenceNanosecondsMax)

    func migrationOptions(preempt: Bool, heals: Bool = false) throws -> MigrationOptions {
        guard silenceLimit.nanoseconds >= Self.silenceNanosecondsMin else {
            throw Refusal.usage("--silence-limit is below 100ms: a live peer may need as long")
        }
        var options = MigrationOptions()
        options.preempt = preempt
        options.heals = heals
        options.silenceNanosecondsMax = silenceLimit.nanoseconds
        // Whoever can be steered while it waits says otherwise.
        options.recovery.mode = .none
        return options
    }

    private static let silenceNanosecondsMin: UInt64 = 100_000_000
}

/// What of the link the migration may take; the source says it.
struct LimitOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: "Bytes per second while the guest runs here: 200MB/s, 1GB/s. (default: no limit)",
        transform: ByteRate.init(parsing:))
    var maxBandwidth: ByteRate?

    @Option(
        parsing: .unconditional,
        help: """
            The same once it has moved; pages that it waits for are not held back. (default: no limit)
            """,
        transform: ByteRate.init(parsing:))
    var maxPostcopyBandwidth: ByteRate?

    func apply(to options: inout MigrationOptions) {
        options.maxBandwidth = maxBandwidth?.bytesPerSecond
        options.maxPostcopyBandwidth = maxPostcopyBandwidth?.bytesPerSecond
    }
}

/// What is printed, and where.
struct ReportOptions: ParsableArguments {
    @Option(help: "Writes the report as JSON to FILE, or to standard output with '-'.")
    var json: String?

    @Flag(help: "Prints no progress and no table.")
    var quiet = false
}

/// What becomes of what was recorded of faults.
struct RecordingOptions: ParsableArguments {
    @Option(help: "Writes the faults to FILE for ui.perfetto.dev; '-' is standard output.")
    var trace: String?

    @Option(help: "Writes all that was recorded of them to FILE, for 'postcopy blocktime'.")
    var faultLog: String?

    var isAsked: Bool { trace != nil || faultLog != nil }
}

/// Options whose value is one of a few words.
enum Choices {
    static func text<Choice: RawRepresentable & CaseIterable>(_: Choice.Type) -> String
    where Choice.RawValue == String {
        Choice.allCases.map(\.rawValue).joined(separator: " ")
    }

    static func parser<Choice: RawRepresentable & CaseIterable & SendableMetatype>(
        _ type: Choice.Type, _ what: String
    ) -> @Sendable (String) throws -> Choice where Choice.RawValue == String {
        let words = text(type)
        return { word in
            guard let choice = Choice(rawValue: word) else {
                throw UnknownChoice(
                    description: "there is no \(what) '\(word)'; choose one of: \(words)")
            }
            return choice
        }
    }

    struct UnknownChoice: Error, CustomStringConvertible {
        let description: String
    }
}

/// Options whose value is a whole number.
enum WholeNumber {
    static func parser(_ remedy: String) -> @Sendable (String) throws -> UInt64 {
        { text in
            guard let number = UInt64(text) else {
                throw Choices.UnknownChoice(
                    description: "'\(text)' is no such whole number; \(remedy)")
            }
            return number
        }
    }
}
