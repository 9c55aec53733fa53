import Foundation
import TestSupport
import Testing

/// The text of `postcopy inspect`, to the letter.
@Suite struct InspectTextTests {
    private func text(of arguments: [String], in place: TestPlace) throws -> String {
        let channels = [
            ("main", SmallMigration.postcopy), ("return", SmallMigration.returnPath),
            ("preempt", SmallMigration.preempt),
        ]
        for (name, bytes) in channels {
            try Data(bytes).write(to: URL(fileURLWithPath: place.path(name)))
        }
        let ended = try RunningCommand(
            ["inspect", place.path("main")] + arguments, in: place
        ).end(within: 20)
        return ended.output.replacing(place.folder.path + "/", with: "")
    }

    @Test("a small migration of three channels")
    func whole() throws {
        try inPlace { place in
            let arguments = [
                "--return-path", place.path("return"), "--preempt", place.path("preempt"),
            ]
            let text = try text(of: arguments, in: place)
            #expect(text == Self.expected)
        }
    }

    @Test("a stream that is wrong, and the bytes around the place")
    func wrong() throws {
        try inPlace { place in
            var bytes = SmallMigration.precopy
            bytes[0x47] = 0x40
            try Data(bytes[..<0x70]).write(to: URL(fileURLWithPath: place.path("bad")))
            let ended = try RunningCommand(["inspect", place.path("bad")], in: place)
                .end(within: 20)
            let text = ended.output.replacing(place.folder.path + "/", with: "")
            #expect(text == Self.expectedWrong)
            #expect(ended.errorLines.count == 1)
            #expect(ended.status == 1)
        }
    }

    private static let expectedWrong = """
        main channel: bad, 112 B

              offset      size
                 0x0      20 B  head              machine type 'small-1'
                0x14       5 B  OPEN_RETURN_PATH
                0x19       9 B  PING 1
                0x22      25 B  ram start         section 7
                0x40     WRONG  RAM block 'ram0' has 65600 bytes at the source, expected whole pages of \
        4096 bytes, at least one

                      0x30  00 00 04 00 00 00 00 00 21 00 04 04 72 61 6d 30  ........!...ram0
                      0x40  00 00 00 00 00 01 00 40 02 6d 30 00 00 00 00 00  .......@.m0.....
                            ^^
                      0x50  20 00 00 00 00 00 00 00 20 00 00 00 00 00 00 00   ....... .......

        """

    private static let expected = """
        main channel: main, 9.07 KiB

              offset      size
                 0x0      20 B  head              machine type 'small-1'
                0x14       5 B  OPEN_RETURN_PATH
                0x19       9 B  PING 1
                0x22      21 B  POSTCOPY_ADVISE   pages of 4 KiB and 2 MiB
                0x37      70 B  ram start         section 7, 2 blocks of 2.06 MiB
                                  ram0    64 KiB
                                  m0       2 MiB  pages of 2 MiB
                0x7d  4.20 KiB  ram part x 3      ram0      1 normal       15 zero  0x0..0x10000
              0x1147      82 B  DISCARD x 3       3 ranges of 2.01 MiB
                                  ram0  2 ranges    12 KiB  0x3000..0xb000
                                  m0     1 range     2 MiB  0x0..0x200000
              0x1199       9 B  PING 2
              0x11a2      94 B  PACKAGED          2 devices, PING 3 0x42
              0x11b0      29 B    cpu    instance 1  version 5   section 9
              0x11cd      28 B    clock  instance 0  version 2  section 10
              0x1200       9 B  PING 4
              0x1209      36 B  ram part          ram0                      2 zero  0x4000..0xb000  2 runs
              0x122d  4.52 KiB  ram end           m0                      512 zero  0x0..0x200000
              0x2442       1 B  end of stream

        return path: return, 88 B

              offset      size
                 0x0       8 B  PONG 1
                 0x8       8 B  PONG 2
                0x10       8 B  PONG 4
                0x18      40 B  REQ_PAGES x 2     2.00 MiB
                                  ram0  1 request     4 KiB  0x3000..0x4000
                                  m0    1 request     2 MiB  0x0..0x200000
                0x40       8 B  PONG 3
                0x48       8 B  PONG 0x42
                0x50       8 B  SHUT 0

        preempt channel: preempt, 22 B

              offset      size
                 0x0      14 B  pages             ram0                      1 zero  0x3000..0x4000
                 0xe       8 B  end

          memory    length  normal  zero  discarded  owed  absent
          ram0      64 KiB       1    18          3     0       0
          m0         2 MiB       0   512        512     0       0
          in all  2.06 MiB       1   530        515     0       0

          complete by postcopy

        """
}
