import PageModel

// The refusals of files and of lengths.
extension RAMError {
    var fileText: String {
        switch self {
        case .openingFile(let block, let path, let error):
            return "RAM block '\(block)': opening '\(path)': \(error); it must be a file that this "
                + "process may read and write, and that nobody has locked for himself"
        case .noRegularFile(let block, let path):
            return "RAM block '\(block)': '\(path)' is no regular file: give it one on tmpfs, "
                + "hugetlbfs or a disk"
        case .fileTooShort(let block, let path, let length, let needed):
            return "RAM block '\(block)' needs \(needed) bytes, '\(path)' has \(length): "
                + "truncate -s \(needed) '\(path)'"
        case .filePageSize(let block, let path, let found, let page):
            return "RAM block '\(block)' has pages of \(page.bytes) bytes, '\(path)' lies in pages "
                + "of \(found): use a file of a hugetlbfs mounted with pagesize=\(page.bytes), or "
                + "ordinary pages"
        case .readingFile(let block, let path, let error):
            return
                "RAM block '\(block)': reading '\(path)': \(error); it must be a regular file that "
                + "this process may read"
        case .contentTooShort(let block, let path, let length, let needed):
            return
                "RAM block '\(block)' has \(needed) bytes, its file '\(path)' only \(length): it is "
                + "cut off; bring a whole one"
        default: return ""
        }
    }

    var lengthText: String {
        switch self {
        case .notResizable(let block):
            return "RAM block '\(block)' cannot be resized: make it with a used length"
        case .beyondMaximum(let block, let used, let maximum):
            return "RAM block '\(block)' cannot have \(used) bytes, it was made for \(maximum)"
        case .notWholePages(let block, let used, let page):
            return "RAM block '\(block)' cannot have \(used) bytes: whole pages of \(page.bytes), "
                + "and at least one"
        case .frozen(let block):
            return "RAM block '\(block)' cannot be resized now: a migration is moving it; "
                + "try again when that has ended"
        case .dropping(let block, let length, let error):
            return "RAM block '\(block)': giving \(length) bytes back: \(error)"
        default: return ""
        }
    }
}
