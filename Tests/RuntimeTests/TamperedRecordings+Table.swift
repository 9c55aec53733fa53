import TestSupport

extension Tampering {
    private typealias Small = SmallRecording
    private static let zeroPage: UInt64 = 2
    private static let continued: UInt64 = 0x20
    private static let listen: [UInt8] = [8, 0, 4, 0, 0]
    private static let run: [UInt8] = [8, 0, 5, 0, 0]

    static let all = opening + records + discards + packages + pages + ends + answers + requests

    private static let opening: [Tampering] = [
        Tampering(.head, "version 2") { $0.opening[7] = 2 },
        Tampering(.head, "no configuration") { $0.opening[8] = 8 },
        Tampering(.item, "a device outside the package") { $0.discards = [4] + $0.discards },
        Tampering(.command, "SWITCHOVER_START") { $0.discards += Small.command(11, []) },
        Tampering(.command, "RESUME") { $0.discards += Small.command(9, []) },
        Tampering(.command, "RECV_BITMAP") {
            $0.discards += Small.command(10, Small.name("ram0"))
        },
        Tampering(.command, "our own hello") {
            $0.discards += Small.command(0x5043, Array(repeating: 0, count: 24))
        },
        Tampering(.command, "our own heartbeat") { $0.discards += Small.command(0x5044, []) },
        Tampering(.command, "LISTEN outside the package") { $0.discards += listen },
        Tampering(.command, "a long PING") { $0.discards += Small.command(2, Small.word(1)) },
        Tampering(.returnPathFirst, "opened twice") { $0.discards += Small.command(1, []) },
        Tampering(.advise, "twice") {
            $0.discards += Small.command(3, Small.word(0x20_1000) + Small.word(0x1000))
        },
        Tampering(.advise, "without the larger pages") {
            guard let place = $0.opening.place(of: Small.word(0x20_1000)) else { return }
            $0.opening[place + 5] = 0
        },
        Tampering(.section, "another id") { $0.postcopy[4] = 9 },
        Tampering(.section, "another footer") { $0.postcopy[$0.postcopy.count - 1] = 9 },
        Tampering(.section, "started twice") {
            guard let place = $0.opening.place(of: [1, 0, 0, 0, 7]),
                let end = $0.opening.place(of: [0x7e, 0, 0, 0, 7])
            else { return }
            $0.opening += $0.opening[place..<end + 5]
        },
        Tampering(.blockList, "another length") {
            guard let place = $0.opening.place(of: Small.name("ram0")) else { return }
            $0.opening[place + 10] = 2
        },
        Tampering(.blockList, "a block that is not there") {
            guard let place = $0.opening.place(of: Small.name("ram0")) else { return }
            $0.opening[place + 1] = 0x52
        },
    ]

    private static let records: [Tampering] =
        [0x40, 0x80, 0x100, 0x200, 4, 0x42, 0x1].map { (flag: UInt64) in
            Tampering(.record, "flags \(flag)") {
                $0.postcopy += Small.section(0x4000 | flag, "ram0", [0])
            }
        } + [
            Tampering(.record, "an end word with an offset") {
                $0.postcopy += Small.section(0x1010, nil, [])
            },
            Tampering(.record, "our own heartbeat") {
                $0.urgent = Small.word(0x5043_4245_4154_0000) + $0.urgent
            },
            Tampering(.record, "our own hello") {
                $0.urgent = Small.command(0x5043, Array(repeating: 0, count: 24)) + $0.urgent
            },
            Tampering(.blockNamed, "CONTINUE first") {
                $0.urgent = Small.word(0x3000 | zeroPage | continued) + [0] + Small.word(0x10)
            },
            Tampering(.blockNamed, "an unknown block") {
                $0.postcopy += Small.section(0x4000 | zeroPage, "ram1", [0])
            },
            Tampering(.pageInside, "behind the block") {
                $0.postcopy += Small.section(0x1_0000 | zeroPage, "ram0", [0])
            },
            Tampering(.zeroFill, "filled with ones") {
                $0.postcopy += Small.section(0x4000 | zeroPage, "ram0", [1])
            },
        ]

    private static let discards: [Tampering] = [
        Tampering(.discardShape, "version 1") {
            $0.discards += Small.discard("ram0", [(0, 0x1000)], version: 1)
        },
        Tampering(.discardShape, "13 ranges") {
            let ranges = (0..<13).map { (page: UInt64) in (page << 12, 0x1000 as UInt64) }
            $0.discards = Small.discard("ram0", ranges)
        },
        Tampering(.discardShape, "no range") { $0.discards += Small.discard("ram0", []) },
        Tampering(.discardShape, "behind the block") {
            $0.discards += Small.discard("ram0", [(0xf000, 0x2000)])
        },
        Tampering(.discardShape, "an end that wraps around") {
            $0.discards += Small.discard("ram0", [(0xf000, .max - 0xfff)])
        },
        Tampering(.discardShape, "part of a host page") {
            $0.discards += Small.discard("m0", [(0, 0x1000)])
        },
        Tampering(.discardShape, "the same twice") {
            $0.discards += Small.discard("ram0", [(0xa000, 0x1000)])
        },
        Tampering(.discardEarly, "behind the package") {
            $0.package += Small.discard("ram0", [(0, 0x1000)])
        },
        Tampering(.discardDue, "none") { $0.discards = [] },
    ]

    private static let ping3 = Small.command(2, Small.number(3, 4))
    private static let ping42 = Small.command(2, Small.number(0x42, 4))

    private static let packages: [Tampering] = [
        Tampering(.package, "no PING 0x42") { $0.package = Small.package(listen + ping3 + run) },
        Tampering(.package, "PINGs swapped") {
            $0.package = Small.package(listen + ping42 + ping3 + run)
        },
        Tampering(.package, "no RUN") { $0.package = Small.package(listen + ping3 + ping42) },
        Tampering(.package, "a device before LISTEN") {
            $0.package = Small.package([4] + listen + ping3 + ping42 + run)
        },
        Tampering(.package, "twice") { $0.package += $0.package },
    ]

    /// A section's end without a page, and that of the stream.
    private static let emptyEnd: [UInt8] =
        [3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 7, 0]

    private static func whole(_ pages: some Sequence<UInt64>) -> [UInt8] {
        pages.flatMap { Small.section($0 | zeroPage, "m0", [0]) }
    }

    private static let pages: [Tampering] = [
        Tampering(.owed, "a page that was not discarded") {
            $0.postcopy += Small.section(0x5000 | zeroPage, "ram0", [0])
        },
        Tampering(.sentOnce, "twice on one channel") { $0.postcopy += $0.postcopy },
        Tampering(.sentOnce, "once on each channel") {
            $0.postcopy += Small.section(0x3000 | zeroPage, "ram0", [0])
        },
        Tampering(.hostPageWhole, "another page within") {
            $0.postcopy =
                whole(SmallMigration.hugePages.prefix(9)) + $0.postcopy
                + whole(SmallMigration.hugePages.dropFirst(9))
            $0.end = emptyEnd
        },
        Tampering(.hostPageWhole, "cut short by the end") {
            $0.end = whole(SmallMigration.hugePages.prefix(9)) + emptyEnd
        },
        Tampering(.hostPageSplit, "over both channels") {
            var half: [UInt8] = []
            for offset in SmallMigration.hugePages.prefix(9) {
                half += Small.word(offset | zeroPage) + Small.name("m0") + [0]
            }
            $0.urgent = half + Small.word(0x10)
        },
        Tampering(.allSent, "a page too few") { $0.postcopy = [] },
        Tampering(.urgentAsked, "not asked for") {
            $0.answers = Small.pong(2) + Small.pong(4) + Small.pong(3) + Small.pong(0x42)
        },
    ]

    private static let ends: [Tampering] = [
        Tampering(.endOfStream, "no end of the stream") { $0.end.removeLast() },
        Tampering(.endOfStream, "nothing behind the package") { ($0.postcopy, $0.end) = ([], []) },
        Tampering(.endOfStream, "no end of the section") { $0.end = [0] },
        Tampering(.endOfStream, "something behind it") { $0.end += [0] },
        Tampering(.urgentEnd, "no end word") { $0.urgent.removeLast(8) },
        Tampering(.urgentEnd, "something behind it") { $0.urgent += Small.word(0x10) },
        Tampering(.connections, "a third one") {
            $0.strangers = [.init(channel: 2, isFromSource: true, bytes: [0x11])]
        },
        Tampering(.connections, "an answer on the urgent one") {
            $0.strangers = [.init(channel: 1, isFromSource: false, bytes: [0])]
        },
    ]

    private static let answers: [Tampering] =
        [0, 5, 6, 7, 0x5043, 0x5044, 0x5045, 0x5046].map { (type: UInt64) in
            Tampering(.message, "type \(type)") {
                $0.answers += Small.message(type, [0, 0, 0, 1])
            }
        } + [
            Tampering(.message, "a long PONG") { $0.answers += Small.message(2, Small.word(2)) },
            Tampering(.message, "a short SHUT") { $0.lastAnswers = Small.message(1, [0]) },
            Tampering(.message, "half a header") { $0.lastAnswers += [0, 2] },
            Tampering(.returnPathOpen, "a PONG before it") {
                $0.opening.removeSubrange(14 + 6..<19 + 6)
            },
            Tampering(.pongAsked, "another value") { $0.answers += Small.pong(9) },
            Tampering(.pongAsked, "the same twice") { $0.answers += Small.pong(4) },
            Tampering(.pongAsked, "too early") { $0.firstAnswers += Small.pong(2) },
            Tampering(.pongDue, "one missing") { $0.answers.removeFirst(8) },
            Tampering(.commitment, "before the package") { $0.firstAnswers += Small.pong(0x42) },
            Tampering(.shutLast, "none") { $0.lastAnswers = [] },
            Tampering(.shutLast, "twice") { $0.lastAnswers += $0.lastAnswers },
            Tampering(.shutLast, "a PONG behind it") { $0.lastAnswers += Small.pong(1) },
            Tampering(.shutEarly, "before the end of the stream") { $0.answers += $0.lastAnswers },
            Tampering(.shutEarly, "before the urgent page") {
                let word = $0.urgent
                $0.urgent = []
                $0.strangers = [.init(channel: 1, isFromSource: true, bytes: word)]
            },
            Tampering(.shutCommitted, "failure behind the commitment") {
                $0.lastAnswers = Small.message(1, [0, 0, 0, 1])
            },
        ]

    private static let requests: [Tampering] =
        [
            Tampering(.requestTime, "before the package") {
                $0.firstAnswers += Small.request(0x3000, 0x1000, "ram0")
            },
            Tampering(.requestNamed, "none named") {
                $0.answers = Small.request(0x3000, 0x1000) + $0.answers
            },
            Tampering(.requestNamed, "an unknown block") {
                $0.answers += Small.request(0x3000, 0x1000, "ram1")
            },
            Tampering(.message, "a request with half a name") {
                $0.answers += Small.message(3, Small.word(0) + [0, 0, 0x10, 0, 9, 0x72])
            },
        ]
        + [(0x3000, 0x800), (0x3800, 0x1000), (0x3000, 0x2000), (0, 0), (0x1_0000, 0x1000)].map {
            (start: UInt64, length: UInt64) in
            Tampering(.requestShape, "\(length) bytes at \(start)") {
                $0.answers += Small.request(start, length)
            }
        } + [
            Tampering(.requestShape, "part of a larger page") {
                $0.answers += Small.request(0, 0x1000, "m0")
            }
        ]
}

extension [UInt8] {
    /// Where `word` begins first.
    func place(of word: [UInt8]) -> Int? { firstRange(of: word)?.lowerBound }
}
