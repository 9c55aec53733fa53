internal import CShims

/// What a user of userfaultfd needs of the kernel, which refuses a handshake that asks for more
/// than it has.
package struct UserfaultfdFeatures: Sendable {
    private let features: [(bit: UInt64, name: String)]

    private init(_ features: [(bit: pc_uffd_feature, name: String)]) {
        self.features = features.map { (UInt64($0.bit.rawValue), $0.name) }
    }

    package var bits: UInt64 { features.reduce(0) { $0 | $1.bit } }

    /// Each with the Linux version that brought it.
    package var names: String { Self.names(features) }

    /// The names of those that are not in `offered`, as the handshake told it; `nil` when all are.
    package func lacking(in offered: UInt64) -> String? {
        let lacking = features.filter { offered & $0.bit == 0 }
        return lacking.isEmpty ? nil : Self.names(lacking)
    }

    private static func names(_ features: [(bit: UInt64, name: String)]) -> String {
        features.map(\.name).joined(separator: ", ")
    }

    /// What every destination needs: missing pages of all three backings, and whose fault it is.
    package static let missingPages = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_MISSING_HUGETLBFS, "missing faults on hugetlb (4.11)"),
        (PC_UFFD_FEATURE_MISSING_SHMEM, "missing faults on shared memory (4.11)"),
        (PC_UFFD_FEATURE_THREAD_ID, "thread ids (4.14)"),
    ])

    /// Missing pages as above, and that pages are given up: whoever does that waits until it was read.
    package static let missingAndRemovedPages = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_MISSING_HUGETLBFS, "missing faults on hugetlb (4.11)"),
        (PC_UFFD_FEATURE_MISSING_SHMEM, "missing faults on shared memory (4.11)"),
        (PC_UFFD_FEATURE_EVENT_REMOVE, "notice of removed pages (4.11)"),
        (PC_UFFD_FEATURE_THREAD_ID, "thread ids (4.14)"),
    ])

    /// Writes to memory of every backing, touched before or not, that are noted and never wait.
    package static let noticedWrites = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "write protection of shared and huge memory (5.19)"),
        (PC_UFFD_FEATURE_WP_UNPOPULATED, "write protection of untouched memory (6.4)"),
        (PC_UFFD_FEATURE_WP_ASYNC, "asynchronous write protection (6.7, on aarch64 6.10)"),
    ])

    /// Pages that are given up while somebody may wait in them.
    package static let removedPages = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_EVENT_REMOVE, "notice of removed pages (4.11)")
    ])

    /// Pages whose content is lost end whoever touches them, instead of keeping it waiting.
    package static let lostPages = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_POISON, "poisoned pages (6.6)")
    ])

    /// Those that nothing here asks for.
    package static let unused = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_MINOR_HUGETLBFS, "minor faults on hugetlb (5.13)"),
        (PC_UFFD_FEATURE_MINOR_SHMEM, "minor faults on shared memory (5.14)"),
        (PC_UFFD_FEATURE_EXACT_ADDRESS, "exact addresses (5.18)"),
        (PC_UFFD_FEATURE_MOVE, "moved pages (6.8)"),
    ])
}
