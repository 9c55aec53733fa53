import TestSupport
import Testing

/// The rule book against recordings that keep its laws, and that break one.
@Suite("What a stock QEMU punishes, recognised")
struct StockQEMUTests {
    private func judge(
        _ recording: SmallRecording, _ ending: StockQEMU.Ending = .completed
    ) -> [StockQEMU.Breach] {
        StockQEMU.judge(recording.migration, blocks: SmallMigration.blocks, ending: ending)
    }

    @Test("a migration that keeps every law is found to")
    func lawful() {
        #expect(judge(SmallRecording()).map(\.description) == [])
        var extended = SmallRecording()
        extended.opening += SmallRecording.command(2, SmallRecording.number(0x5043_0001, 4))
        extended.firstAnswers +=
            SmallRecording.message(0x5043, [1, 2, 3]) + SmallRecording.message(0x5044, [1])
        #expect(judge(extended).map(\.description) == [])
    }

    @Test("each breach is found by its law", arguments: Tampering.all)
    func breach(_ tampering: Tampering) {
        var recording = SmallRecording()
        tampering.change(&recording)
        let breaches = judge(recording)
        #expect(breaches.contains { $0.law == tampering.law }, "\(breaches)")
    }

    @Test("every law has a breach in the table")
    func everyLaw() {
        let laws = Set(Tampering.all.map(\.law))
        #expect(StockQEMULaw.allCases.filter { !laws.contains($0) } == [])
    }

    @Test("what is merely cut off breaks no law")
    func cut() {
        let whole = SmallRecording().migration
        for count in 1...whole.entries.count {
            for part in [0, 1, 7, 30] {
                var migration = RecordedMigration(entries: Array(whole.entries.prefix(count)))
                let last = migration.entries[count - 1].bytes
                migration.entries[count - 1].bytes = Array(last.prefix(part))
                let breaches = StockQEMU.judge(
                    migration, blocks: SmallMigration.blocks, ending: .cut)
                #expect(breaches.map(\.description) == [], "\(count) entries, \(part) bytes")
            }
        }
    }

    @Test("a refusal must be told")
    func refusal() {
        var recording = SmallRecording()
        (recording.postcopy, recording.end, recording.urgent) = ([], [], [])
        recording.answers = SmallRecording.pong(2) + SmallRecording.pong(4)
        recording.lastAnswers = SmallRecording.message(1, [0, 0, 0, 1])
        #expect(judge(recording, .refused).map(\.description) == [])
        recording.lastAnswers = []
        #expect(judge(recording, .refused).map(\.law) == [.shutLast])
    }
}
