/// The text of compressible pages: words of eight printable characters from a small dictionary.
enum TextWords {
    /// 64 words, so that a choice is six bits and a page deflates to about a sixth of its size.
    private static let dictionary: [UInt64] = [
        "address ", "block   ", "boundary", "buffer  ", "cache   ", "channel ", "clock   ",
        "command ", "counter ", "cursor  ", "device  ", "discard ", "event   ", "fault   ",
        "field   ", "flag    ", "frame   ", "guest   ", "handle  ", "header  ", "host    ",
        "index   ", "kernel  ", "latency ", "length  ", "limit   ", "link    ", "listen  ",
        "machine ", "mapping ", "memory  ", "message ", "migrate ", "monitor ", "offset  ",
        "package ", "page    ", "pattern ", "pause   ", "pending ", "place   ", "pointer ",
        "poll    ", "postcopy", "process ", "queue   ", "ram     ", "read    ", "receive ",
        "recover ", "request ", "resume  ", "ring    ", "section ", "source  ", "state   ",
        "stream  ", "target  ", "thread  ", "vector  ", "version ", "wake    ", "word    ",
        "write   ",
    ].map(packed)

    /// The eight characters as they lie in memory, little-endian.
    private static func packed(_ text: StaticString) -> UInt64 {
        var word: UInt64 = 0
        var shift: UInt64 = 0
        for byte in text.description.utf8 {
            word |= UInt64(byte) << shift
            shift += 8
        }
        return word
    }

    /// Eight choices come out of one element of the page's stream.
    @inline(__always)
    private static func choice(_ index: Int, in element: UInt64) -> Int {
        Int(truncatingIfNeeded: (element >> UInt64(8 &* (index & 7))) & 63)
    }

    static func word(_ index: Int, key: UInt64) -> UInt64 {
        let element = Mixing.element(UInt64(index >> 3), of: key)
        return dictionary[choice(index, in: element)]
    }

    static func write(key: UInt64, into words: inout MutableSpan<UInt64>) {
        let dictionary = dictionary.span
        for group in 0..<words.count / 8 {
            let element = Mixing.element(UInt64(truncatingIfNeeded: group), of: key)
            for index in 0..<8 {
                words[group * 8 + index] = dictionary[choice(index, in: element)]
            }
        }
    }

    /// The bits in which `found` differs from the text, from word `first` on; 0 when equal.
    static func difference(key: UInt64, from first: Int, found: Span<UInt64>) -> UInt64 {
        let dictionary = dictionary.span
        var difference: UInt64 = 0
        var element: UInt64 = 0
        for index in first..<found.count {
            if index == first || index & 7 == 0 {
                element = Mixing.element(UInt64(truncatingIfNeeded: index >> 3), of: key)
            }
            difference |= found[index] ^ dictionary[choice(index, in: element)]
        }
        return difference
    }
}
