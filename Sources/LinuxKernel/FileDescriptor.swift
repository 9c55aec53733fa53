internal import Glibc

/// One owned descriptor; closed when its owner goes.
public struct FileDescriptor: ~Copyable, Sendable {
    let raw: Int32

    /// Takes ownership of an open descriptor, for example one that a parent process handed down.
    public init(owning raw: Int32) { self.raw = raw }

    deinit { _ = Glibc::close(raw) }
}

extension FileDescriptor {
    /// What `EMFILE` means, and what helps.
    package static let limitReason = "no more files may be open; raise the limit (ulimit -n)"

    /// Raises it for the shell that it is typed into, and for what that starts.
    package static let limitCommand = "sudo prlimit --pid $$ --nofile=1024:1024"
}
