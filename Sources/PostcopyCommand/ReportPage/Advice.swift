internal import Postcopy

/// What would have helped, and the figures that say so.
struct Advice: Equatable {
    let title: String
    let text: String
    /// The figures behind it.
    let basis: String
}

/// The rules that find advice in a report. A rule that lacks its figures says nothing.
struct AdviceRules {
    let document: ReportDocument
    private let causes: [String: UInt64]
    private let totalNs: Double

    /// A cause below a fifth of the waiting is not what to mend first.
    private static let shareMin = 0.2
    /// Waits that add up to less than this trouble nobody, whatever their causes are.
    static let waitedNsMin = 1e6

    init(_ document: ReportDocument) {
        self.document = document
        let flight = document.flight
        causes = (flight?.attribution ?? []).reduce(into: [:]) { causes, part in
            causes[part.cause] = (causes[part.cause] ?? 0).adding(part.ns)
        }
        totalNs = causes.values.reduce(0) { $0 + Double($1) }
    }

    /// All that the figures support.
    var advice: [Advice] {
        let byCause =
            totalNs < Self.waitedNsMin
            ? []
            : [
                linkDown, behindBackground, rateLimit, hugePages, handler, sourceBusy, distance,
            ]
        return
            (byCause + [unrecordedLinkDown, precopyFits, noPrecopy, inOrder, busyHost, notLocked])
            .compactMap(\.self)
    }

    // MARK: Causes

    /// What these causes took, as "62 % of all waiting (1.2 s of 1.9 s)", where it is much.
    private func much(_ names: String...) -> String? {
        let took = names.reduce(0) { $0 + Double(causes[$1] ?? 0) }
        guard took / totalNs >= Self.shareMin else { return nil }
        let words = names.filter { (causes[$0] ?? 0) > 0 }.map { CauseLabel($0).name }
        return "\(words.joined(separator: " and ")): \(Percent.text(share: took / totalNs)) of all "
            + "waiting (\(Readable.time(took)) of \(Readable.time(totalNs)))"
    }

    private var linkDown: Advice? {
        much("link-down").map { basis in
            let longest = downNs.max().map { "; the longest break took \(Readable.time($0))" }
            return .keepTheLinkUp(basis: basis + (longest ?? ""))
        }
    }

    /// How long each break of the link lasted, as the side that waited for pages saw it.
    var downNs: [UInt64] {
        (document.destination?.breaks ?? document.source?.breaks ?? []).compactMap(\.downNs)
    }

    private var behindBackground: Advice? {
        guard let basis = much("behind-background", "already-in-flight") else { return nil }
        let hasUrgent = document.channels.preempt == true
        return Advice(
            title: hasUrgent
                ? "Keep less of the background on its way"
                : "Give urgent pages a channel of their own",
            text: hasUrgent
                ? "Pages were asked for that the background had sent and that stood in buffers: a lower "
                    + "--max-postcopy-bandwidth, just under what the link carries, keeps those short."
                : "Urgent pages shared the one channel with the background. With the preempt channel "
                    + "(leave --no-preempt out) they overtake it.",
            basis: basis)
    }

    private var rateLimit: Advice? {
        much("rate-limit").map { basis in
            Advice(
                title: "Allow the postcopy more of the link",
                text: "The background was held back while somebody waited. Raise or leave out "
                    + "--max-postcopy-bandwidth.",
                basis: basis)
        }
    }

    private var hugePages: Advice? {
        guard let basis = much("huge-page-in-flight") else { return nil }
        return Advice(
            title: "Use smaller pages while the guest moves",
            text:
                "A missing huge page is there only once the last of its pieces is. Memory in pages "
                + "of 4 KiB (--backing anonymous --page-size 4K, with --heal to rebuild huge ones "
                + "afterwards) waits for one piece only.",
            basis: "\(basis); pages of \(Readable.bytes(document.ram.pageSize))")
    }

    private var handler: Advice? {
        guard let basis = much("noticing", "asking", "waking") else { return nil }
        let delay = document.flight.map {
            "; a fault was read \(Readable.time($0.timing.readDelayMeanNs)) after it happened on average, "
                + "\(Readable.time($0.timing.readDelayMaxNs)) at most"
        }
        return Advice(
            title: "Give the destination's handler a core",
            text: "The thread that handles faults did not get to run when it should have. Pin the "
                + "vCPUs away from it, give the host more cores, or move to one that is less busy.",
            basis: basis + (delay ?? ""))
    }

    private var sourceBusy: Advice? {
        much("source-busy").map { basis in
            Advice(
                title: "Ask for fewer pages at once, or more at a time",
                text: "Requests queued at the source. A round of precopy more, or a faster link, "
                    + "leaves fewer pages to be asked for.",
                basis: basis)
        }
    }

    private var distance: Advice? {
        guard let basis = much("request-travel", "page-travel", "link-and-source") else {
            return nil
        }
        return Advice(
            title: "Shorten the way, or need it less often",
            text:
                "Much of the waiting was for the way there and back. A link with a shorter round trip helps each "
                + "wait; a round of precopy more makes waits fewer.",
            basis: basis)
    }
}
