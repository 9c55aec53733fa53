/// What a thread of this process is called.
public enum ThreadName {
    /// At most 15 bytes of whatever the thread chose; `nil` once it is gone, or without /proc.
    ///
    /// Source: `comm` of proc_pid_comm(5).
    public static func of(_ thread: Int32) -> String? {
        SystemText.read("/proc/self/task/\(thread)/comm")
            .map { String($0.prefix { !$0.isNewline }) }
    }
}
