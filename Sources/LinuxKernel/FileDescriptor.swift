internal import Glibc

/// One owned descriptor; closed when its owner goes.
public struct FileDescriptor: ~Copyable, Sendable {
    let raw: Int32

    /// Takes ownership of an open descriptor, for example one that a parent process handed down.
    public init(owning raw: Int32) { self.raw = raw }

    deinit { _ = Glibc::close(raw) }
}
