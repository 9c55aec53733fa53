/// Source: judges a destination's silence for a thread that waits in a write and cannot hear: by what
/// lies unread in the return path, which grows for as long as the destination lives.
public struct UnreadWatch: Hashable, Sendable {
    private var link: UInt32 = 0
    private var unreadBytes = 0
    private var grewAtNanoseconds: UInt64 = 0
    private var silentLooks = 0

    /// Nothing seen yet.
    public init() {}

    /// Looks again; answers whether nothing has come for as long as the limit. Once is not enough: the
    /// return path may be seen empty before it is seen that somebody has read it.
    /// - Parameter link: the number of the link; what is known of another one does not count.
    /// - Parameter unreadBytes: what lies in the return path, asked for before `heardAtNanoseconds`.
    /// - Parameter heardAtNanoseconds: when the return path was last read.
    public mutating func isSilent(
        link: UInt32, unreadBytes unread: Int, heardAtNanoseconds heard: UInt64, at now: UInt64,
        limitNanoseconds: UInt64
    ) -> Bool {
        if link != self.link || heard > grewAtNanoseconds { unreadBytes = 0 }
        self.link = link
        if unread > unreadBytes { grewAtNanoseconds = now }
        unreadBytes = unread
        let last = max(heard, grewAtNanoseconds)
        silentLooks = now > last && now - last >= limitNanoseconds ? silentLooks + 1 : 0
        return silentLooks > 1
    }
}
