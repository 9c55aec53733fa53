public struct PrecopyObservation: Equatable, Sendable {
    public var elapsedNanoseconds: UInt64 = 0
    public var roundsDone = 0
    public var isRoundEnd = false
    public var remainingBytes: UInt64 = 0
    public var totalBytes: UInt64 = 0
    public var bandwidthBytesPerSecond: UInt64 = 0
    public var dirtyBytesPerSecond: UInt64 = 0
    public init() {}
    public init(elapsedNanoseconds: UInt64, roundsDone: Int, isRoundEnd: Bool, remainingBytes: UInt64, totalBytes: UInt64, bandwidthBytesPerSecond: UInt64, dirtyBytesPerSecond: UInt64) {
        self.elapsedNanoseconds = elapsedNanoseconds; self.roundsDone = roundsDone; self.isRoundEnd = isRoundEnd; self.remainingBytes = remainingBytes; self.totalBytes = totalBytes; self.bandwidthBytesPerSecond = bandwidthBytesPerSecond; self.dirtyBytesPerSecond = dirtyBytesPerSecond
    }
    public func expectedDowntimeNanoseconds(remainingBytes: UInt64) -> UInt64 { bandwidthBytesPerSecond == 0 ? .max : UInt64(Double(remainingBytes) / Double(bandwidthBytesPerSecond) * 1e9) }
}
public enum SwitchoverRule: String, Sendable { case byHand = "by-hand", afterTime = "after-time", afterRounds = "after-rounds", fitsDowntime = "fits-downtime", automatic }
public struct SwitchoverDecision: Equatable, Sendable, CustomStringConvertible {
    public var ending: SourcePhase.Ending
    public var rule: SwitchoverRule
    public var observation: PrecopyObservation
    public var description: String { "\(rule.rawValue)" }
    public static func byHand(_ o: PrecopyObservation) -> SwitchoverDecision { .init(ending: .postcopy, rule: .byHand, observation: o) }
}
public struct SwitchoverPolicy: Sendable {
    public struct Settings: Equatable, Sendable {
        public var downtimeLimitNanoseconds: UInt64? = 30_000_000
        public var switchAfterNanoseconds: UInt64?
        public var switchAfterRounds: Int?
        public var isAutomatic = true
        public init() {}
    }
    let s: Settings
    public init(_ s: Settings) { self.s = s }
    public mutating func decide(_ o: PrecopyObservation) -> SwitchoverDecision? {
        if let a = s.switchAfterNanoseconds, o.elapsedNanoseconds >= a { return .init(ending: .postcopy, rule: .afterTime, observation: o) }
        if let r = s.switchAfterRounds, o.roundsDone >= r { return .init(ending: .postcopy, rule: .afterRounds, observation: o) }
        if o.isRoundEnd, let d = s.downtimeLimitNanoseconds, o.expectedDowntimeNanoseconds(remainingBytes: o.remainingBytes) <= d { return .init(ending: .precopy, rule: .fitsDowntime, observation: o) }
        if s.isAutomatic, o.isRoundEnd, o.dirtyBytesPerSecond > o.bandwidthBytesPerSecond / 2 { return .init(ending: .postcopy, rule: .automatic, observation: o) }
        return nil
    }
}
public struct AutoConverge: Sendable {
    public struct Settings: Equatable, Sendable {
        public var initialPercent = 20, incrementPercent = 10, maximumPercent = 99
        public init() {}
    }
    public init(_ s: Settings) {}
    public mutating func note(dirtiedBytes: UInt64, sentBytes: UInt64) -> Int? { nil }
}
public struct TransferRates: Sendable {
    var first: UInt64 = 0, bytes: UInt64 = 0, pages: UInt64 = 0, at: UInt64 = 0, lastSync: UInt64 = 0, dirty: UInt64 = 0
    public init() {}
    public mutating func noteSent(bytes: UInt64, pages: UInt64, at: UInt64) { if first == 0 { first = at }; self.bytes = bytes; self.pages = pages; self.at = at }
    public mutating func noteSync(dirtiedPages: UInt64, at: UInt64) { if lastSync != 0 { dirty = UInt64(Double(dirtiedPages) / Double(at - lastSync) * 1e9) }; lastSync = at }
    public var bytesPerSecond: UInt64 { at <= first ? 0 : UInt64(Double(bytes) / Double(at - first) * 1e9) }
    public var pagesPerSecond: UInt64 { at <= first ? 0 : UInt64(Double(pages) / Double(at - first) * 1e9) }
    public var memoryBytesPerSecond: UInt64 { pagesPerSecond * 4096 }
    public var dirtyPagesPerSecond: UInt64 { dirty }
    public var dirtyBytesPerSecond: UInt64 { dirty * 4096 }
    public func expectedDowntimeNanoseconds(remainingBytes: UInt64) -> UInt64? { memoryBytesPerSecond == 0 ? nil : UInt64(Double(remainingBytes) / Double(memoryBytesPerSecond) * 1e9) }
}
public struct PrecopyRound: Equatable, Sendable {
    public var number = 0
    public var startedAtNanoseconds: UInt64 = 0
    public var durationNanoseconds: UInt64 = 0
    public var sentPages: UInt64 = 0
    public var sentBytes: UInt64 = 0
    public var dirtiedPages: UInt64 = 0
    public init() {}
}
