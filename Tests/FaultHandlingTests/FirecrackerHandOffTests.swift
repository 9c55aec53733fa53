import FaultHandling
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("Firecracker's hand-off")
struct FirecrackerHandOffTests {
    private func parse(_ text: String) throws(HandOffError) -> FirecrackerHandOff {
        try FirecrackerHandOff(parsing: Array(text.utf8))
    }

    @Test("the regions are read as each version sends them")
    func versions() throws {
        // As `serde_json` writes them: in the order of the fields, without blanks.
        let since110 = """
            [{"base_host_virt_addr":140652369149952,"size":3221225472,"offset":0,"page_size":2097152,\
            "page_size_kib":2097152},{"base_host_virt_addr":140647002505216,"size":1073741824,\
            "offset":3221225472,"page_size":4096,"page_size_kib":4096}]
            """
        let handOff = try parse(since110)
        #expect(handOff.lengthBytes == 4 << 30)
        let (low, high) = (handOff.regions[0], handOff.regions[1])
        #expect(low.address == HostAddress(rawValue: 140652369149952))
        #expect(low.geometry.lengthBytes == 3 << 30 && low.contentOffset == 0)
        #expect(low.geometry.hostPage == .size2MiB && high.geometry.hostPage == .target)
        #expect(high.contentOffset == 3 << 30)
        for page in [
            "", #","page_size_kib":4096"#, #","page_size_kib":4"#, #","page_size":4096"#,
        ] {
            let text = #"[{"base_host_virt_addr":4096,"size":8192,"offset":4096\#(page)}]"#
            #expect(try parse(text).regions[0].geometry.hostPage == .target)
        }
        let kibibytes =
            #"[{"base_host_virt_addr":0,"size":2097152,"offset":0,"page_size_kib":2048}]"#
        #expect(try parse(kibibytes).regions[0].geometry.hostPage == .size2MiB)
    }

    @Test("what else stands in a region is passed over, whatever it is")
    func unknownFields() throws {
        let text = """
             [ { "new" : [ { "a" : null } , -1.5e9 ] , "size" : 4096 , "flags" : true ,
            "offset" : 0 , "page_size" : 4096 , "base_host_virt_addr" : 4096 } ]
            """
        #expect(try parse(text).regions.count == 1)
    }

    @Test("no region may reach beyond the content")
    func content() throws {
        let handOff = try parse(
            #"[{"base_host_virt_addr":4096,"size":8192,"offset":4096,"page_size":4096}]"#)
        try handOff.check(contentBytes: 12_288)
        #expect(throws: HandOffError.beyondContent(region: 0, end: 12_288, contentBytes: 12_287)) {
            try handOff.check(contentBytes: 12_287)
        }
    }

    @Test("regions may follow each other in the content, and not share any of it")
    func sharedContent() throws {
        func regions(_ offsets: [UInt64]) -> String {
            let entries = offsets.enumerated().map { index, offset in
                #"{"base_host_virt_addr":\#((index + 1) << 20),"size":8192,"offset":\#(offset)}"#
            }
            return "[\(entries.joined(separator: ","))]"
        }
        #expect(try parse(regions([16_384, 0, 8_192])).regions.count == 3)
        #expect(throws: HandOffError.sameContent(0, 2)) { try parse(regions([4_096, 12_288, 0])) }
        let same = [UInt64](repeating: 0, count: 400)
        #expect(throws: HandOffError.self) { try parse(regions(same)) }
    }

    @Test("every message that is cut off only asks for more")
    func truncated() throws {
        let whole = Array(
            #"[{"base_host_virt_addr":4096,"size":8192,"offset":4096,"page_size":4096}]"#.utf8)
        for length in 0..<whole.count {
            do throws(HandOffError) {
                _ = try FirecrackerHandOff(parsing: Array(whole[..<length]))
                Issue.record("\(length) bytes were taken for all")
            } catch {
                guard case .notJSON(_, isTruncated: true) = error else {
                    Issue.record("\(length) bytes: \(error)")
                    continue
                }
            }
        }
    }

    @Test("damaged messages are refused or read, and never more than that", arguments: 0..<200)
    func mutations(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let good = Array(
            """
            [{"base_host_virt_addr":140652369149952,"size":3221225472,"offset":0,"page_size":4096},\
            {"base_host_virt_addr":140647002505216,"size":1073741824,"offset":3221225472,\
            "page_size_kib":4096}]
            """.utf8)
        let pieces: [[UInt8]] = [
            "-", "9999999999", "\"", "[", "]", "{", "}", ",", "\\u00", "e9", "0",
        ]
        .map { Array($0.utf8) }
        for _ in 0..<50 {
            var bytes = good
            for _ in 0...random.below(4) {
                let place = random.below(bytes.count)
                switch random.below(3) {
                case 0: bytes[place] = UInt8(random.below(256))
                case 1: bytes.remove(at: place)
                default: bytes.insert(contentsOf: pieces[random.below(pieces.count)], at: place)
                }
            }
            do throws(HandOffError) {
                let handOff = try FirecrackerHandOff(parsing: bytes)
                #expect(!handOff.regions.isEmpty)
                for region in handOff.regions {
                    let page = region.geometry.hostPage
                    #expect(page.divides(region.address.rawValue))
                    #expect(page.divides(region.geometry.lengthBytes))
                }
            } catch {
                #expect(!"\(error)".isEmpty)
            }
        }
    }
}
