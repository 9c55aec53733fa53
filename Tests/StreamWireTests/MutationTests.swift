import PageModel
import StreamWire
import TestSupport
import Testing

/// A million damaged streams that this code wrote, under the law of `DecodingLaw`.
@Suite("damaged bytes")
struct MutationTests {
    static let parts = 20
    private let law = DecodingLaw(blocks: blocks)

    @Test("450,000 main channels", arguments: 0..<parts)
    func main(seed: Int) throws {
        try damage(postcopyStream, mainChannel(), runs: 12_500, seed: seed)
        try damage(precopyStream, mainChannel(), runs: 5_000, seed: seed + 1000)
        try damage(sharingStream, sharingChannel(), runs: 5_000, seed: seed + 4000)
    }

    @Test("300,000 return paths", arguments: 0..<parts)
    func returnPaths(seed: Int) throws {
        try damage(returnPathStream, returnPath(), runs: 10_000, seed: seed + 2000)
        try damage(extendedStream, returnPath(), runs: 5_000, seed: seed + 5000)
    }

    @Test("250,000 preempt channels", arguments: 0..<parts)
    func preempt(seed: Int) throws {
        try damage(preemptStream, PreemptChannel(), runs: 12_500, seed: seed + 3000)
    }

    @Test("200,000 recoveries on all three channels", arguments: 0..<parts)
    func recoveries(seed: Int) throws {
        let law = DecodingLaw(blocks: recoveredBlocks.map(\.geometry))
        try damage(resumedStream, resumedChannel(), runs: 4_000, seed: seed + 6000, law)
        try damage(resumedReturnStream, resumedReturnPath(), runs: 4_000, seed: seed + 7000, law)
        let urgent = PreemptChannel(acceptsHeartbeats: true)
        try damage(beatingStream, urgent, runs: 2_000, seed: seed + 8000)
    }

    @Test("100,000 hellos are whole, or refused in place")
    func hellos() {
        var whole: [UInt8] = []
        greeting.append(to: &whole)
        var random = SeededRandom(seed: 9)
        var decoded = 0
        for run in 0..<100_000 {
            var bytes = whole + [1, 2, 3]
            for _ in 0...random.below(2) { strike(&bytes, joining: whole, with: &random) }
            do throws(WireError) {
                let hello = try ChannelHello.decode(bytes.span)
                guard (hello == nil) == (bytes.count < ChannelHello.wireBytes) else {
                    Issue.record("run \(run): \(bytes)")
                    return
                }
                guard let hello else { continue }
                decoded += 1
                var again: [UInt8] = []
                hello.append(to: &again)
                guard bytes.starts(with: again) else {
                    Issue.record("run \(run): \(bytes)")
                    return
                }
            } catch {
                guard error.position < UInt64(bytes.count) else {
                    Issue.record("run \(run): \(error)")
                    return
                }
            }
        }
        #expect(decoded > 1_000)
    }

    private func damage<Decoder: ChannelDecoder>(
        _ stream: [UInt8], _ start: Decoder, runs: Int, seed: Int, _ law: DecodingLaw? = nil
    ) throws {
        let law = law ?? self.law
        let items = try DamagedItems(of: stream, start, law: law)
        let tally = items.run(runs, seed: UInt64(seed))
        #expect(tally.refused > runs / 10 && tally.total == runs)
    }
}

@Suite("damaged packages")
struct PackageMutationTests {
    @Test("100,000 packages: parts and devices stay inside, or it throws")
    func packages() {
        var random = SeededRandom(seed: 5)
        for run in 0..<100_000 {
            var blob = package
            for _ in 0...random.below(2) { strike(&blob, joining: package, with: &random) }
            do throws(WireError) {
                let parts = try DevicePackage.parse(blob.span, at: 7)
                guard parts.devices.lowerBound == 5, parts.devices.upperBound <= blob.count - 14
                else {
                    Issue.record("run \(run): devices at \(parts.devices)")
                    return
                }
                var rest = parts.devices
                while !rest.isEmpty {
                    let found = try DeviceSection.decode(blob.span, in: rest, at: 7)
                    guard found.next > rest.lowerBound, found.next <= rest.upperBound else {
                        Issue.record("run \(run): a device ends at \(found.next)")
                        return
                    }
                    rest = found.next..<rest.upperBound
                }
            } catch {
                guard error.position >= 7, error.position <= UInt64(blob.count) + 7 else {
                    Issue.record("run \(run): \(error)")
                    return
                }
            }
        }
    }
}
