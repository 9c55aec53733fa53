extension FaultLog {
    /// This log of a destination with what the source of the same migration recorded.
    ///
    /// Blocks are the same where they have one name, whatever their order.
    public func joined(with other: FaultLog) -> FaultLog {
        var result = self
        guard var source = other.source else { return result }
        var places: [UInt16] = []
        for block in other.blocks {
            let known = result.blocks.firstIndex { $0.name == block.name }
            if known == nil { result.blocks.append(block) }
            places.append(UInt16(clamping: known ?? result.blocks.count - 1))
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
