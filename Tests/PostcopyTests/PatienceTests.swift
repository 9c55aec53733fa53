import Postcopy
import TestSupport
import Testing

/// Limits of time at the ends of what they can be.
@Suite(.timeLimit(.minutes(2))) struct PatienceTests {
    @Test("patience without end is patience like any other", arguments: [false, true])
    func endless(hasPrecopy: Bool) throws {
        var options = MigrationOptions()
        options.silenceNanosecondsMax = .max
        options.pauseNanosecondsMax = .max
        options.linkLimitNanoseconds = .max
        options.recovery.lastingNanoseconds = .max
        if hasPrecopy { options.precopy = PrecopyOptions() }
        let ends = try TwoEnds(sends: options, receives: options)
        if !hasPrecopy { ends.source.startPostcopy() }
        try ends.start()
        try ends.expectMoved()
    }

    @Test("who receives with patience without end takes what comes")
    func reception() throws {
        var endless = MigrationOptions()
        endless.silenceNanosecondsMax = .max
        let options = endless
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        let place = Handover(listener)
        let reception = try Reception()
        let waiting = try Bounded("reception") {
            Result { () throws(ReceptionError) in
                _ = try reception.wait(on: place.take(), options: options)
            }
        }
        let socket = try StreamSocket.connect(to: address)
        let noStream = [UInt8](repeating: 0x5a, count: 64)
        try socket.send(noStream.span)
        socket.shutDown()
        let result = try #require(waiting.output())
        #expect(throws: ReceptionError.self) { try result.get() }
    }
}
