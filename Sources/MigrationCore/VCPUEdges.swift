/// A moment at which a vCPU stops or goes on.
struct VCPUEdge: Sendable {
    enum Kind: UInt8, Sendable { case blocked, released, halted, woken }

    let at: UInt64
    let vcpu: Int32
    let kind: Kind
}

/// The latest edges in the order of time, those of one instant in the order in which they were told.
///
/// Edges come nearly in order, so that one seldom passes more than a few on its way to its place.
struct VCPUEdges: Sendable {
    private var ring: [VCPUEdge]
    private var head = 0
    private(set) var count = 0
    private let mask: Int

    /// - Precondition: `capacity` is a power of two.
    init(capacity: Int) {
        precondition(capacity.nonzeroBitCount == 1)
        ring = Array(repeating: VCPUEdge(at: 0, vcpu: 0, kind: .woken), count: capacity)
        mask = capacity - 1
    }

    var isFull: Bool { count > mask }

    /// The edges, oldest at 0.
    subscript(place: Int) -> VCPUEdge { ring[(head + place) & mask] }

    /// - Precondition: there is room.
    mutating func insert(_ edge: VCPUEdge) {
        var place = count
        while place > 0, self[place - 1].at > edge.at {
            ring[(head + place) & mask] = self[place - 1]
            place -= 1
        }
        ring[(head + place) & mask] = edge
        count += 1
    }

    /// - Precondition: there is one.
    mutating func removeFirst() -> VCPUEdge {
        let first = self[0]
        head = (head + 1) & mask
        count -= 1
        return first
    }
}
