internal import CPostcopy
internal import Postcopy

/// What is missing of each block, as C reads it: valid for as long as this lives.
@safe
final class MissingRows: @unchecked Sendable {
    // SAFETY: `rows` is written in `init` alone and freed by `deinit`; `names` keeps its texts.
    private let rows: UnsafeMutablePointer<postcopy_missing>
    private let names: [OwnedText]
    let count: Int

    init(_ missing: [MissingPages]) {
        count = missing.count
        names = missing.map { OwnedText($0.block) }
        unsafe rows = UnsafeMutablePointer.allocate(capacity: missing.count)
        for (index, pages) in missing.enumerated() {
            let row = unsafe postcopy_missing(
                block: names[index].pointer, pages: UInt64(pages.hostPages), bytes: pages.bytes)
            unsafe (rows + index).initialize(to: row)
        }
    }

    deinit { unsafe rows.deallocate() }

    /// - Returns: `count` rows.
    @unsafe var pointer: UnsafePointer<postcopy_missing> { unsafe UnsafePointer(rows) }
}

/// Numbers that C reads: valid for as long as this lives.
@safe
final class OwnedNumbers: @unchecked Sendable {
    // SAFETY: `numbers` is written in `init` alone and freed by `deinit`.
    private let numbers: UnsafeMutablePointer<UInt64>
    let count: Int

    init(_ values: [UInt64]) {
        count = values.count
        unsafe numbers = UnsafeMutablePointer.allocate(capacity: values.count)
        for (index, value) in values.enumerated() {
            unsafe (numbers + index).initialize(to: value)
        }
    }

    deinit { unsafe numbers.deallocate() }

    @unsafe var pointer: UnsafePointer<UInt64> { unsafe UnsafePointer(numbers) }
}
