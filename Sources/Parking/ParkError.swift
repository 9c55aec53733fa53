public import Postcopy

/// Why a machine cannot be parked, or not be taken up again.
public enum ParkError: Error, Equatable, Sendable, CustomStringConvertible {
    // The place, found before anything is taken.

    /// The path ends in no name that a folder can have.
    case badName(path: String)
    case exists(path: String)
    case noParent(path: String, Errno)
    case notWritable(folder: String, Errno)
    /// Another process is parking a machine there.
    case inUse(path: String)
    /// What is left of a parking that was cut off holds something else.
    case foreignEntry(path: String)
    case noLocks(folder: String, Errno)
    case tooLittleSpace(folder: String, neededBytes: UInt64, freeBytes: UInt64)

    // Writing. The machine is unharmed, and `commit` can be tried again.

    /// - Parameters:
    ///   - neededBytes: what all files take, at most; 0 when they are written.
    ///   - freeBytes: what can be written, now that the half-written files are gone; `nil` when nobody
    ///     knows.
    case writing(path: String, Errno, neededBytes: UInt64, freeBytes: UInt64?)

    // Reading.

    case noManifest(path: String)
    /// The machine was sent from there before, and may run.
    case handedOn(path: String)
    case reading(path: String, Errno)
    /// Half-written, changed, or not this program's.
    case damaged(path: String, reason: String)
    case unknownFormat(path: String, found: UInt64)

    // The machine.

    case tooMuch(what: String, count: Int, maximum: Int)
    case repeatedBlock(String)
    case noBlocks
    case tooLittleMemory(neededBytes: UInt64, availableBytes: UInt64)
    case geometry(GeometryError)
    case ram(RAMError)

    public var description: String {
        switch self {
        case .badName, .exists, .noParent, .notWritable, .inUse, .foreignEntry, .noLocks,
            .tooLittleSpace, .writing:
            placeText
        case .noManifest(let path):
            "'\(path)' is no parked machine, or only half of one: it has no machine.json"
        case .handedOn(let path):
            "the machine in '\(path)' was handed on before, and would run twice: the file 'handed-on' "
                + "there says where to; if it is gone there, give --again"
        case .reading(let path, let error): "reading '\(path)': \(error)"
        case .damaged(let path, let reason):
            "'\(path)' is damaged, or not a parked machine's: \(reason)"
        case .unknownFormat(let path, let found):
            "'\(path)' has format \(found), this program knows \(ParkManifest.format): use the "
                + "program that wrote it, or a newer one"
        case .tooMuch(let what, let count, let maximum):
            "a machine with \(count) \(what) cannot be parked, \(maximum) is the most"
        case .repeatedBlock(let name): "the machine has two RAM blocks named '\(name)'"
        case .noBlocks: "the machine has no RAM block"
        case .tooLittleMemory(let needed, let available):
            "RAM blocks of \(needed) bytes, \(available) are available here: free some memory, or "
                + "take the machine on a larger host"
        case .geometry(let error): error.description
        case .ram(let error): error.description
        }
    }

    private var placeText: String {
        switch self {
        case .badName(let path): "'\(path)' names no folder that could be made"
        case .exists(let path):
            "'\(path)' exists, and nothing is replaced: remove it or give another path"
        case .noParent(let path, let error):
            "the folder '\(path)', in which the machine would be parked: \(error)"
        case .notWritable(let folder, let error):
            "nothing can be written in '\(folder)': \(error); give a folder in one that this user "
                + "may write to"
        case .inUse(let path):
            "another process is parking a machine in '\(path)': wait for it or give another path"
        case .foreignEntry(let path):
            "'\(path)' stands where the machine would be written, and is not this program's: remove "
                + "it or give another path"
        case .noLocks(let folder, let error):
            "the file system of '\(folder)' has no locks: \(error); park on another one"
        case .tooLittleSpace(let folder, let needed, let free):
            "the machine may need \(needed) bytes, \(free) are free in '\(folder)': free some or "
                + "park on a larger disk"
        case .writing(let path, let error, let needed, let free):
            "writing '\(path)': \(error)"
                + (needed > 0 ? "; \(needed) bytes are needed at most" : "")
                + (free.map { ", \($0) are free" } ?? "")
                + ": \(error.isFull ? "free some space" : "mend that") and try again, the machine is "
                + "still held"
        default: ""
        }
    }
}

extension Errno {
    fileprivate var isFull: Bool { self == .noSpace || self == .overQuota }
}
