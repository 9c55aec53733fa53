/// What tells one host from another.
public enum HostIdentity {
    /// Names this boot of this host, whose `CLOCK_MONOTONIC` all its processes share; `nil` where /proc
    /// is not mounted.
    ///
    /// Source: `random/boot_id` of proc_sys_kernel(5).
    public static var bootID: String? {
        SystemText.read("/proc/sys/kernel/random/boot_id")
            .map { String($0.prefix { !$0.isNewline }) }
    }
}
