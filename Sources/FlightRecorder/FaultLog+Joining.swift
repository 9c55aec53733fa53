extension FaultLog {
    /// As many blocks as records can name: the largest number of 16 bits names none.
    static let blocksMax = Int(UInt16.max)

    /// This log of a destination with what the source of the same migration recorded.
    ///
    /// Blocks are the same where they have one name, whatever their order.
    public func joined(with other: FaultLog) -> FaultLog {
        var result = self
        guard var source = other.source else { return result }
        var known = Dictionary(zip(blocks.map(\.name), blocks.indices)) { first, _ in first }
        var places: [UInt16] = []
        for block in other.blocks {
            if known[block.name] == nil, result.blocks.count < Self.blocksMax {
                known[block.name] = result.blocks.count
                result.blocks.append(block)
            }
            places.append(UInt16(clamping: known[block.name] ?? Self.blocksMax))
        }
        if places != Array(0..<UInt16(clamping: places.count)) {
            for index in source.services.indices {
                let block = Int(source.services[index].block)
                // One that points nowhere must not begin to point somewhere.
                source.services[index].block = block < places.count ? places[block] : .max
            }
        }
        result.source = source
        return result
    }
}
