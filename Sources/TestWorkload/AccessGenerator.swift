/// How far one vCPU has come: with the specification, all that its next step depends on.
public struct GeneratorState: Equatable, Sendable {
    public internal(set) var stepsDone: UInt64
    /// The position in the vCPU's stream of random numbers.
    public internal(set) var random: UInt64
    /// The page of the next access, counted from the first of the vCPU's share.
    public internal(set) var cursor: UInt64
    /// Every value read so far, mixed in order.
    public internal(set) var readChecksum: UInt64

    public init(stepsDone: UInt64, random: UInt64, cursor: UInt64, readChecksum: UInt64) {
        self.stepsDone = stepsDone
        self.random = random
        self.cursor = cursor
        self.readChecksum = readChecksum
    }

    /// Before the first step.
    public init(specification: WorkloadSpecification, vcpu: Int) {
        self.init(
            stepsDone: 0,
            random: Mixing.combine(specification.seed, UInt64(vcpu)),
            cursor: 0, readChecksum: 0)
    }
}

/// The steps of one vCPU, the same for the same specification whatever memory they run over.
struct AccessGenerator: Sendable {
    private(set) var state: GeneratorState
    private let pattern: AccessPattern
    private let firstPage: Int
    private let pageCount: UInt64
    private let stride: UInt64
    /// A step writes when 32 random bits are below this.
    private let writeThreshold: UInt64
    private let zipf: ZipfRanks

    /// - Precondition: `state.cursor` is inside the vCPU's share.
    init(specification: WorkloadSpecification, vcpu: Int, state: GeneratorState) {
        let pages = specification.pages(of: vcpu)
        precondition(state.cursor < UInt64(pages.count))
        self.state = state
        pattern = specification.pattern
        firstPage = pages.lowerBound
        pageCount = UInt64(pages.count)
        stride = Self.stride(coprimeTo: pageCount)
        writeThreshold = UInt64(specification.writeFraction * 0x1p32)
        zipf = ZipfRanks(count: pages.count)
    }

    /// One access: reads word 0 of the chosen page, then writes the page or takes the value into
    /// the checksum.
    @inline(__always)
    mutating func step(_ memory: inout some WorkloadMemory) {
        state.random &+= Mixing.golden
        let random = Mixing.finish(state.random)
        let place = place(random)
        let page = firstPage &+ Int(truncatingIfNeeded: place)
        let word = memory.countWord(ofPage: page)
        if random & 0xFFFF_FFFF < writeThreshold {
            memory.write(page: page, countWord: word)
        } else {
            state.readChecksum = Mixing.finish((state.readChecksum &+ Mixing.golden) ^ word)
        }
        moveOn(from: place, having: word)
        state.stepsDone &+= 1
    }

    @inline(__always)
    private func place(_ random: UInt64) -> UInt64 {
        switch pattern {
        case .sequential, .stride, .chase: state.cursor
        case .uniform, .idle: Mixing.scale(random >> 32, below: pageCount)
        case .zipf: zipf.place(random)
        }
    }

    @inline(__always)
    private mutating func moveOn(from place: UInt64, having word: UInt64) {
        switch pattern {
        case .sequential:
            let next = place &+ 1
            state.cursor = next == pageCount ? 0 : next
        case .stride:
            let next = place &+ stride
            state.cursor = next < pageCount ? next : next &- pageCount
        case .chase:
            let mixed = Mixing.finish(word ^ (state.stepsDone &* Mixing.golden))
            state.cursor = Mixing.scale(mixed >> 32, below: pageCount)
        case .uniform, .zipf, .idle:
            state.cursor = place
        }
    }

    /// 17 pages, or the next number that shares no factor with the share: then it reaches every
    /// page. Below `pageCount`, so that one subtraction wraps.
    private static func stride(coprimeTo pageCount: UInt64) -> UInt64 {
        var stride: UInt64 = 17
        while Mixing.greatestCommonDivisor(stride, pageCount) != 1 { stride += 1 }
        return stride % pageCount
    }
}
