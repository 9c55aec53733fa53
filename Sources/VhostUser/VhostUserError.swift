public import LinuxKernel
public import PostcopyRuntime

/// Why a back-end cannot be taken through a migration.
public enum VhostUserError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Sending a request, or receiving its reply.
    case link(VhostUserRequest, Errno)
    case closed(VhostUserRequest)
    case timedOut(VhostUserRequest, milliseconds: UInt64)
    case badReply(VhostUserRequest, String)
    /// It answered that it did not do it.
    case refused(VhostUserRequest, UInt64)
    /// It does not offer what a postcopy takes.
    case lacks(String)
    /// No table can hold these.
    case memory(String)
    case client(SharedClientError)
    /// The embedder's: requests have an order.
    case outOfOrder(VhostUserRequest, String)

    public var description: String {
        switch self {
        case .link(let request, let error): "vhost-user \(request.name): \(error)"
        case .closed(let request):
            "vhost-user \(request.name): the back-end closed the connection; see what it printed"
        case .timedOut(let request, let milliseconds):
            "vhost-user \(request.name): no answer within \(milliseconds) ms"
        case .badReply(let request, let reason):
            "vhost-user \(request.name): the back-end broke the protocol: \(reason)"
        case .refused(let request, let value):
            "vhost-user \(request.name): the back-end refused with \(value); see what it printed"
        case .lacks(let feature):
            "the vhost-user back-end does not offer \(feature), which a postcopy takes: end the precopy "
                + "before the guest moves, or give it a back-end that does (libvhost-user offers "
                + "PAGEFAULT where it may open a userfaultfd: as root, with CAP_SYS_PTRACE or with "
                + "sysctl vm.unprivileged_userfaultfd=1)"
        case .memory(let reason): "the memory for a vhost-user back-end: \(reason)"
        case .client(let error): error.description
        case .outOfOrder(let request, let reason): "vhost-user \(request.name): \(reason)"
        }
    }
}
