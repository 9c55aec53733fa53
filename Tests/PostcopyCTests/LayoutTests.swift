import CPostcopy
import Testing

@testable import PostcopyC

/// The sizes that programs were built with which know the first header.
@Suite struct LayoutTests {
    /// Where a struct ended when the member at `path` was its last: it may have grown since.
    private static func end<Struct, Member>(of path: KeyPath<Struct, Member>) -> Int {
        let end = (MemoryLayout<Struct>.offset(of: path) ?? -1) + MemoryLayout<Member>.size
        let alignment = MemoryLayout<Struct>.alignment
        return (end + alignment - 1) / alignment * alignment
    }

    @Test("a struct of the first header is taken, and no shorter one")
    func sizes() {
        let rows: [(name: String, first: Int, least: Int, now: Int)] = [
            unsafe Self.row(\postcopy_ram_options.shared_file),
            unsafe Self.row(\postcopy_guest.kvm_slot_count),
            unsafe Self.row(\postcopy_options.progress_interval),
            Self.row(\postcopy_limits.downtime_limit),
            unsafe Self.row(\postcopy_faults_options.ended),
            Self.row(\postcopy_faults_progress.latency_max),
            Self.row(\postcopy_progress.breaks),
            unsafe Self.row(\postcopy_source_report.breaks),
            unsafe Self.row(\postcopy_destination_report.breaks),
        ]
        for row in rows {
            #expect(row.least == row.first, "\(row.name)")
            #expect(row.now >= row.first, "\(row.name)")
        }
    }

    /// - Parameter last: the last member in the first header.
    private static func row<Struct: SizedStruct, Member>(
        _ last: KeyPath<Struct, Member>
    ) -> (name: String, first: Int, least: Int, now: Int) {
        (Struct.structName, end(of: last), Struct.sizeMin, MemoryLayout<Struct>.size)
    }
}
