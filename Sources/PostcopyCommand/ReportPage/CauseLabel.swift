/// A cause of delay as the page shows it: its name, and what it has to do with, which gives it its
/// colour: sixteen causes have more colours than an eye tells apart.
struct CauseLabel: Equatable {
    /// As a row is called.
    let name: String
    let place: Place

    /// Where the time went; the name of a class of the style sheet.
    enum Place: String, CaseIterable {
        case linkDown = "cause-down"
        case travel = "cause-travel"
        case queue = "cause-queue"
        case sending = "cause-sending"
        case background = "cause-background"
        case handler = "cause-handler"
        case other = "cause-other"

        var text: String {
            switch self {
            case .linkDown: "the link was down"
            case .travel: "on the way"
            case .queue: "waiting for its turn at the source"
            case .sending: "being sent"
            case .background: "already sent, and on its way"
            case .handler: "in the destination's handler"
            case .other: "elsewhere"
            }
        }
    }

    /// A cause that this program does not know keeps its own name.
    init(_ cause: String) {
        (name, place) =
            switch cause {
            case "noticing": ("noticing the fault", .handler)
            case "asking": ("asking for the page", .handler)
            case "link-down": ("link down", .linkDown)
            case "request-travel": ("request on its way", .travel)
            case "behind-background": ("behind the background", .queue)
            case "rate-limit": ("rate limit", .queue)
            case "huge-page-in-flight": ("rest of a huge page", .queue)
            case "source-busy": ("other requests first", .queue)
            case "serving": ("being sent", .sending)
            case "page-travel": ("page on its way", .travel)
            case "already-in-flight": ("already in flight", .background)
            case "waiting-for-another": ("another thread asked", .other)
            case "relayed": ("fetched from further", .other)
            case "placing": ("being placed", .handler)
            case "waking": ("waking noted late", .handler)
            case "link-and-source": ("link and source", .travel)
            default: (cause, .other)
            }
    }
}
