import Foundation
import Glibc
import TestSupport
import Testing

/// `postcopy inspect` as its user meets it.
@Suite struct InspectTests {
    private func inspect(
        _ arguments: [String], in place: TestPlace, input: FileHandle = .nullDevice
    ) throws -> RunningCommand.Ended {
        try RunningCommand(["inspect"] + arguments, in: place, input: input).end(within: 20)
    }

    private func channels(of vector: String) -> [String] {
        let others = [("--return-path", "return"), ("--preempt", "preempt")].flatMap {
            Vectors.exists("\(vector)/\($1).bin") ? [$0, Vectors.path("\(vector)/\($1).bin")] : []
        }
        return [Vectors.path("\(vector)/main.bin")] + others
    }

    @Test(
        "what a real QEMU sent is whole, and the document says what the manifest does",
        arguments: Vectors.whole)
    func vectors(name: String) throws {
        try inPlace { place in
            let ended = try inspect(channels(of: name) + ["--json", "-"], in: place)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.json["status"] as? String == "good")
            #expect(ended.json["schema"] as? Int == 1)
            let ending = name == "precopy" ? "complete by precopy" : "complete by postcopy"
            #expect(ended.json["ending"] as? String == ending)
            let memory = try #require(ended.json["memory"] as? [[String: Any]])
            let manifest = try JSONSerialization.jsonObject(
                with: Data(try Vectors.bytes("manifest.json")))
            let entry = try #require(
                (manifest as? [[String: Any]])?.first { $0["name"] as? String == name })
            let blocks = try #require(entry["blocks"] as? [[String: Any]])
            #expect(
                Set(memory.compactMap { $0["name"] as? String })
                    == Set(blocks.compactMap { $0["name"] as? String }))
            for block in memory {
                let listed = blocks.first { $0["name"] as? String == block["name"] as? String }
                #expect(block["bytes"] as? Int == listed?["lengthBytes"] as? Int)
                #expect(block["page-size"] as? Int == listed?["pageBytes"] as? Int)
                #expect(block["owed"] as? Int == 0)
                #expect(block["absent"] as? Int == 0)
            }
            // Where only JSON may go, the text goes to standard error.
            #expect(ended.errorLines.contains("  \(ending)"))
        }
    }

    @Test("a migration that was cut says where, and so does its return path")
    func cut() throws {
        try inPlace { place in
            let ended = try inspect(channels(of: "postcopy-recover"), in: place)
            let bytes = try Vectors.bytes("postcopy-recover/main.bin").count
            #expect(ended.status == 1, "\(ended)")
            #expect(
                ended.errorLines == [
                    "postcopy: \(Vectors.path("postcopy-recover/main.bin")) at byte \(bytes): the file "
                        + "ends in the middle of a RAM section, where a record was due; 1 problem more"
                ])
            let place = String(bytes, radix: 16)
            #expect(ended.output.contains("0x\(place)     WRONG  the file ends"), "\(ended)")
        }
    }

    @Test("with the link that recovered it a migration that was cut is whole")
    func recovered() throws {
        try inPlace { place in
            let resumed = [("--resumed", "main"), ("--resumed-return-path", "return")].flatMap {
                [$0, Vectors.path("postcopy-recover/\($1)-resumed.bin")]
            }
            let arguments = channels(of: "postcopy-recover") + resumed + ["--json", "-"]
            let ended = try inspect(arguments, in: place)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.json["ending"] as? String == "complete by postcopy")
            let memory = try #require(ended.json["memory"] as? [[String: Any]])
            #expect(memory.allSatisfy { $0["owed"] as? Int == 0 && $0["absent"] as? Int == 0 })
            let links = try #require(ended.json["resumed"] as? [[String: Any]])
            let path = try #require(links.first?["return-path"] as? [String: Any])
            let items = try #require(path["items"] as? [[String: Any]])
            #expect(items.count { $0["kind"] as? String == "bitmap" } == 6)
        }
    }

    @Test("the main channel comes from standard input as well")
    func standardInput() throws {
        try inPlace { place in
            let input = try #require(
                FileHandle(forReadingAtPath: Vectors.path("postcopy/main.bin")))
            let ended = try inspect(["-", "--quiet"], in: place, input: input)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.output.isEmpty && ended.errorLines.isEmpty, "\(ended)")
        }
    }

    @Test("a stream cut at each of its items tells those before and no more")
    func cutAtItems() throws {
        try inPlace { place in
            let whole = try Vectors.bytes("postcopy-hugetlb/main.bin")
            let path = Vectors.path("postcopy-hugetlb/main.bin")
            let items = try self.items(try inspect([path, "--json", "-", "--quiet"], in: place))
            #expect(items.count > 10)
            // The head ends only with the byte behind it.
            for (index, item) in items.enumerated() where index > 1 {
                let offset = try #require(item["offset"] as? Int)
                let cut = Data(whole[..<offset])
                try cut.write(to: URL(fileURLWithPath: place.path("cut")))
                let ended = try inspect(
                    [place.path("cut"), "--json", "-", "--quiet"], in: place)
                #expect(ended.status == 1, "\(ended)")
                let told = try self.items(ended)
                #expect(told.count == index, "\(ended)")
                #expect(
                    ended.errorLines.first?.contains("at byte \(offset): the file ends") == true)
            }
        }
    }

    private func items(_ ended: RunningCommand.Ended) throws -> [[String: Any]] {
        let main = try #require(ended.json["main"] as? [String: Any], "\(ended)")
        return try #require(main["items"] as? [[String: Any]])
    }

    @Test(
        "a flipped byte shows where it stands",
        arguments: [
            (0x1a, "unknown section type 0x88, expected a section, a command or the end"),
            (0x1c, "unknown command 129"), (0x2c, "payload"),
            (0xe7, "unknown section type 0x82"), (0xec, "RAM record flags"),
        ])
    func flipped(offset: Int, text: String) throws {
        try inPlace { place in
            var bytes = try Vectors.bytes("postcopy-preempt/main.bin")
            // The last byte of the first page's word, for the flags.
            bytes[offset == 0xec ? 0xec + 7 : offset] ^= 0x80
            try Data(bytes).write(to: URL(fileURLWithPath: place.path("flipped")))
            let ended = try inspect([place.path("flipped")], in: place)
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.errorLines.count == 1)
            #expect(ended.errorLines.first?.contains(text) == true, "\(ended)")
            #expect(ended.output.contains("^^"), "\(ended)")
            #expect(ended.output.contains("pc-i440fx-7.2"), "\(ended)")
        }
    }

    @Test("what cannot be inspected is refused in one line, with the way out")
    func refusals() throws {
        try inPlace { place in
            let files: [(String, [UInt8])] = [
                ("empty", []), ("elf", [0x7f, 0x45, 0x4c, 0x46]), ("zip", [0x1f, 0x8b, 8, 0]),
                ("multifd", [0x11, 0x22, 0x33, 0x44]), ("main", SmallMigration.postcopy),
                ("return", SmallMigration.returnPath), ("preempt", SmallMigration.preempt),
                ("libvirt", Array("LibvirtQemudSave".utf8)),
            ]
            for (name, bytes) in files {
                try Data(bytes).write(to: URL(fileURLWithPath: place.path(name)))
            }
            let recovery = Vectors.path("postcopy-recover/main-resumed.bin")
            let main = place.path("main")
            let cases: [([String], String)] = [
                ([place.path("nowhere")], "nowhere cannot be read: No such file or directory"),
                ([place.folder.path], "it is a folder; give a file"),
                (["/proc/self/mem"], "was not read on: Input/output error"),
                ([place.path("empty")], "is empty"),
                ([place.path("elf")], "begins with 7f 45 4c 46, expected 51 45 56 4d (QEVM)"),
                ([place.path("zip")], "is compressed by gzip: unpack it"),
                ([place.path("multifd")], "begins like a multifd channel"),
                ([place.path("libvirt")], "is an image of libvirt"),
                ([place.path("return")], "begins like a return path: pass it with --return-path"),
                ([place.path("preempt")], "begins like a preempt channel: pass it with --preempt"),
                ([recovery], "the main channel of a recovery: it has no head"),
                ([main, "--preempt", place.path("return")], "begins like a return path, and was"),
                ([main, "--return-path", main], "begins like a main channel, and was"),
                ([main, "--return-path", place.path("no")], "--return-path"),
                ([main, "--resumed", main], "was given as the main channel of a recovery"),
                ([main, "--resumed-preempt", main], "more --resumed-preempt than --resumed"),
                (
                    [main, "--resumed", recovery, "--resumed-return-path", main],
                    "begins like a main"
                ),
                (["-", "--preempt", "-"], "standard input can be one channel only"),
                ([main, "--json", place.folder.path], "it is a folder; give another path"),
            ]
            for (arguments, text) in cases {
                let ended = try inspect(arguments, in: place)
                #expect(ended.status == 1 || ended.status == 64, "\(ended)")
                #expect(ended.errorLines.count == 1, "\(ended)")
                #expect(ended.errorLines.first?.contains(text) == true, "\(ended)")
                #expect(ended.output.isEmpty, "\(ended)")
            }
        }
    }

    @Test("a document is written whole or not at all, beside the text")
    func document() throws {
        try inPlace { place in
            try Data(SmallMigration.postcopy).write(to: URL(fileURLWithPath: place.path("main")))
            let report = place.path("report.json")
            let ended = try inspect(
                [place.path("main"), "--preempt", place.path("main") + "x", "--json", report],
                in: place)
            #expect(ended.status == 1, "\(ended)")
            #expect(place.leftovers(expecting: ["main"]) == [])
            let good = try inspect([place.path("main"), "--json", report], in: place)
            #expect(good.status == 0, "\(good)")
            #expect(good.output.contains("complete but for 1 discarded page"), "\(good)")
            let json = try JSONSerialization.jsonObject(
                with: Data(contentsOf: URL(fileURLWithPath: report)))
            #expect((json as? [String: Any])?["status"] as? String == "good")
        }
    }
}
