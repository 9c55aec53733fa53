import PageModel
import StreamWire
import Testing

/// What the tests' blocks look like to somebody who does not know them.
private let introduced = blocks.map {
    StreamIntroduction.Block(
        name: $0.name, usedBytes: $0.lengthBytes, hostPage: $0.hostPage)
}

private func introduction(_ stream: [UInt8]) -> Outcome<StreamIntroduction> {
    do throws(WireError) {
        return .decoded(try StreamIntroduction.decode(stream.span))
    } catch {
        return .refused(error)
    }
}

/// A stream that begins properly and lists blocks as given.
private func listing(_ entries: [UInt8], totalBytes: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    StreamEncoder.appendHead(machineType: "pc", to: &bytes)
    StreamEncoder.appendSectionStart(id: 7, to: &bytes)
    return bytes + bigEndian(totalBytes | 4) + entries
}

private func entry(_ block: String, _ length: UInt64, _ rest: [UInt8] = []) -> [UInt8] {
    name(block) + bigEndian(length) + rest
}

private let endOfBody: [UInt8] = bigEndian(UInt64(0x10))

@Suite("The introduction of a stream")
struct IntroductionTests {
    @Test("names what a guest is made of")
    func whole() throws {
        guard case .decoded(.item(let found, let consumed)) = introduction(postcopyStream) else {
            Issue.record("\(introduction(postcopyStream))")
            return
        }
        #expect(found.machineType == "pc-i440fx-7.2")
        #expect(found.configuration.isEmpty)
        #expect(found.pageSizeSummary == 0x20_1000)
        #expect(found.ramSection == 2)
        #expect(found.blocks == introduced)
        #expect(Array(postcopyStream[consumed..<consumed + 8]) == endOfBody)
    }

    @Test("keeps the configuration byte for byte, so that it can be sent on")
    func configuration() throws {
        guard case .decoded(.item(let found, _)) = introduction(precopyStream) else {
            Issue.record("\(introduction(precopyStream))")
            return
        }
        #expect(found.pageSizeSummary == nil)
        var again: [UInt8] = []
        StreamEncoder.appendHead(
            machineType: found.machineType, configuration: found.configuration, to: &again)
        #expect(again == Array(precopyStream.prefix(again.count)))
        #expect(again.count > 100)
    }

    @Test("every proper prefix asks for more")
    func prefixes() throws {
        guard case .decoded(.item(_, let consumed)) = introduction(postcopyStream) else {
            Issue.record("the whole stream has an introduction")
            return
        }
        for length in 0..<consumed {
            let outcome = introduction(Array(postcopyStream.prefix(length)))
            guard case .decoded(.needMoreBytes(let count)) = outcome, count > length else {
                Issue.record("\(length): \(outcome)")
                return
            }
        }
    }

    @Test("the last block's page size is told from the record behind it")
    func lastBlock() {
        let huge = entry("m0", 0x40_0000, bigEndian(UInt64(0x20_0000))) + endOfBody
        let small = entry("m0", 0x40_0000) + endOfBody
        for (bytes, page) in [(huge, PageSize.size2MiB), (small, .target)] {
            guard
                case .decoded(.item(let found, _)) = introduction(
                    listing(bytes, totalBytes: 0x40_0000))
            else {
                Issue.record("no introduction for pages of \(page.bytes)")
                continue
            }
            #expect(found.blocks.map(\.hostPage) == [page])
        }
    }

    @Test(
        "refuses what cannot be a list",
        arguments: [
            (entry("a", 0x3000), 0x2000, "said to total"),
            (entry("a", 0x1000) + entry("a", 0x1000) + endOfBody, 0x2000, "second time"),
            (entry("a", 0x1800) + entry("b", 0x800), 0x2000, "whole pages of 4096 bytes"),
            (entry("a", 0) + entry("b", 0x2000), 0x2000, "whole pages of 4096 bytes"),
            (
                entry("a", 0x1000, bigEndian(UInt64(0x3000))) + entry("b", 0x1000), 0x2000,
                "pages of 12288 bytes"
            ),
            (
                entry("a", 0x10_0000, bigEndian(UInt64(0x20_0000))), 0x10_0000,
                "whole pages of 2097152 bytes"
            ),
            ([1, 0xff] + bigEndian(UInt64(0x1000)) + endOfBody, 0x1000, "not UTF-8"),
            (entry("a", 1 << 60) + endOfBody, 1 << 60, "room for"),
        ] as [([UInt8], UInt64, String)])
    func refusal(_ entries: [UInt8], totalBytes: UInt64, words: String) {
        guard case .refused(let error) = introduction(listing(entries, totalBytes: totalBytes))
        else {
            Issue.record("accepted")
            return
        }
        #expect("\(error)".contains(words), "\(error)")
    }

    @Test("refuses more blocks than a machine has, and a list that never ends")
    func bounds() {
        let many = (0..<300).flatMap { entry("block\($0)", 0x1000) }
        let outcome = introduction(listing(many, totalBytes: 300 * 0x1000))
        guard case .refused(let error) = outcome, case .tooManyBlocks = error.kind else {
            Issue.record("\(outcome)")
            return
        }
        // A source that only pings is no introduction either.
        var pings = Array(postcopyStream.prefix(26))
        while pings.count < StreamIntroduction.lengthBytesMax {
            StreamEncoder.appendCommand(.openReturnPath, blocks: [], to: &pings)
        }
        guard case .refused(let last) = introduction(pings), case .introductionTooLong = last.kind
        else {
            Issue.record("\(introduction(pings))")
            return
        }
    }

    @Test("refuses a stream that does something else first")
    func order() {
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(machineType: "pc", to: &bytes)
        StreamEncoder.appendPackage(package, to: &bytes)
        guard case .refused(let error) = introduction(bytes) else {
            Issue.record("accepted")
            return
        }
        #expect(error.kind == .misplaced(.beforeBlockList))
    }
}
