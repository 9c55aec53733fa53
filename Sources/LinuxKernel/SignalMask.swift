internal import Glibc

/// Which signals reach the calling thread, and the threads that it starts from then on.
public enum SignalMask {
    /// Lets these signals in. A process inherits the mask of the thread that started it, and worker
    /// threads of many libraries block everything.
    public static func unblock(_ signals: [Int32]) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for signal in signals { unsafe sigaddset(&set, signal) }
        _ = unsafe pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }
}
