internal import Postcopy

/// A break of the link as one side saw it; instants are of this host's `CLOCK_MONOTONIC`.
struct BreakFigures: Codable, Equatable {
    var problem: String
    /// When the other side was last heard.
    var heardAtNs: UInt64
    var pausedAtNs: UInt64
    /// When the connection stood by which it came back, pages could flow again, and the first was
    /// placed: missing where that never came, or where only the other side can know.
    var linkBackAtNs: UInt64?
    var resumedAtNs: UInt64?
    var firstPageAtNs: UInt64?
    var attempts: Int
    var backOffNs: UInt64?

    static func list(_ breaks: [LinkBreak]) -> [BreakFigures]? {
        guard !breaks.isEmpty else { return nil }
        return breaks.map { broken in
            BreakFigures(
                problem: broken.problem, heardAtNs: broken.heardAtNanoseconds,
                pausedAtNs: broken.pausedAtNanoseconds, linkBackAtNs: broken.linkBackAtNanoseconds,
                resumedAtNs: broken.resumedAtNanoseconds,
                firstPageAtNs: broken.firstPageAtNanoseconds, attempts: broken.attempts,
                backOffNs: broken.backOffNanoseconds == 0 ? nil : broken.backOffNanoseconds)
        }
    }

    /// How many there were, also those that are not kept.
    static func count(_ recovery: RecoveryProgress) -> Int? {
        recovery.breakCount == 0 ? nil : recovery.breakCount
    }

    /// How long no page could flow; `nil` when none ever did again.
    var downNs: UInt64? {
        guard let resumedAtNs, resumedAtNs >= pausedAtNs else { return nil }
        return resumedAtNs - pausedAtNs
    }

    var pieces: [String] {
        guard let downNs else { return [problem, "not back"] }
        let tries = attempts > 1 ? ["\(attempts) attempts"] : []
        return [problem, "back in \(Readable.time(downNs))"] + tries
    }

    var text: String { pieces.joined(separator: ", ") }
}

/// A cut that was asked for with `--break-after`, and what the two sides made of it.
struct CutFigures: Codable, Equatable {
    var cutAtNs: UInt64
    /// When connections were let through again.
    var healedAtNs: UInt64?
    var sourcePausedAfterNs: UInt64?
    var destinationPausedAfterNs: UInt64?
    /// From then to the first page.
    var firstPageAfterNs: UInt64?

    init(cutAtNs: UInt64, healedAtNs: UInt64?) {
        self.cutAtNs = cutAtNs
        self.healedAtNs = healedAtNs
    }

    /// The cuts of a run beside the breaks that each side saw before the next cut came.
    static func list(
        _ cuts: [CutFigures], source: [BreakFigures], destination: [BreakFigures]
    ) -> [CutFigures] {
        cuts.enumerated().map { index, cut in
            let next = index + 1 < cuts.count ? cuts[index + 1].cutAtNs : .max
            let span = cut.cutAtNs..<max(next, cut.cutAtNs + 1)
            let here = source.first { span.contains($0.pausedAtNs) }
            let there = destination.first { span.contains($0.pausedAtNs) }
            // A link that broke again before it brought a page is back with a later break.
            let page = destination.lazy.filter { span.contains($0.pausedAtNs) }
                .compactMap(\.firstPageAtNs).first { $0 >= cut.healedAtNs ?? .max }
            var cut = cut
            cut.sourcePausedAfterNs = here.map { $0.pausedAtNs - cut.cutAtNs }
            cut.destinationPausedAfterNs = there.map { $0.pausedAtNs - cut.cutAtNs }
            if let page, let healed = cut.healedAtNs { cut.firstPageAfterNs = page - healed }
            return cut
        }
    }
}

extension ReportDocument {
    /// Adds that a proxy stood between the two, what it did, and how often it was to.
    mutating func add(_ breaker: LinkBreaker, asked: Int?) {
        cutsAsked = asked
        channels.proxy = "\(breaker.address)"
        cuts = CutFigures.list(
            breaker.cuts, source: source?.breaks ?? [], destination: destination?.breaks ?? [])
    }

    /// The JSON has all that were kept.
    private static let breaksInTableMax = 4

    /// Rows for people: what each side lost and how it came back.
    var breakPieces: [String?] {
        let sides = [("source", source), ("destination", destination)]
        return sides.flatMap { name, side -> [String] in
            let breaks = side?.breaks ?? []
            let told = breaks.prefix(Self.breaksInTableMax).flatMap { broken in
                ["\(name): \(broken.pieces[0])"] + broken.pieces.dropFirst()
            }
            let rest =
                (side?.breakCount ?? breaks.count) - min(breaks.count, Self.breaksInTableMax)
            return told + (rest > 0 ? ["\(name): \(rest) more"] : [])
        }
    }

    var cutPieces: [String?] {
        guard let cuts else { return [] }
        let asked = cutsAsked ?? cuts.count
        guard !cuts.isEmpty else {
            return ["0 of \(asked) cuts: nothing was left to break"]
        }
        func range(_ values: [UInt64], _ words: String) -> String? {
            guard let most = values.max() else { return nil }
            let middle = values.sorted()[values.count / 2]
            return values.count == 1
                ? "\(words) \(Readable.time(most))"
                : "\(words) median \(Readable.time(middle)), max \(Readable.time(most))"
        }
        return [
            cuts.count < asked
                ? "\(cuts.count) of \(asked) cuts: nothing was left for more"
                : "\(cuts.count) by a proxy",
            range(cuts.compactMap(\.sourcePausedAfterNs), "source noticed in"),
            range(cuts.compactMap(\.destinationPausedAfterNs), "destination in"),
            range(cuts.compactMap(\.firstPageAfterNs), "first page once whole in"),
        ]
    }
}
