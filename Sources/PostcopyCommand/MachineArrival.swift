internal import Parking
internal import Postcopy
internal import Synchronization

/// Waits for a QEMU to say what machine it has.
struct MachineArrival {
    let options: MigrationOptions
    let console: Console

    /// A source that has connected, and where it did.
    struct Outcome {
        let stream: OneUse<IncomingStream>
        let address: ChannelAddress
    }

    /// - Throws: `Refusal` with why nobody's machine can be taken.
    func wait(at asked: ChannelAddress) throws -> Outcome {
        let reception: Reception
        let listener: Listener
        do {
            reception = try Reception()
            listener = try Listener(at: asked)
        } catch {
            throw Refusal.environment("\(error)")
        }
        let address = listener.address
        console.note("\(DestinationSide.announcement)\(address)")
        let (place, stream) = (OneUse(listener), OneUse<IncomingStream>())
        let options = options
        let problem = try Attendance.run("pc-reception") { () -> ReceptionError? in
            do throws(ReceptionError) {
                guard let found = try reception.wait(on: place.take(), options: options) else {
                    return nil
                }
                stream.put(found)
                return nil
            } catch {
                return error
            }
        } attend: {
            if Interruption.heed() { reception.cancel() }
        }
        if let problem { throw Refusal.environment("\(problem)") }
        guard !stream.isEmpty else { throw Refusal.interrupted }
        return Outcome(stream: stream, address: address)
    }
}

/// Carries what cannot be copied to the thread that consumes it.
final class OneUse<Value: ~Copyable & Sendable>: Sendable {
    private let value: Mutex<Value?>

    init() { value = Mutex(nil) }

    init(_ value: consuming Value) { self.value = Mutex(value) }

    func put(_ new: consuming sending Value) {
        var new: Value? = new
        value.withLock { $0 = new.take() }
    }

    var isEmpty: Bool {
        value.withLock { value in
            switch value {
            case .some: false
            case .none: true
            }
        }
    }

    /// - Precondition: it was put and not taken yet.
    func take() -> Value {
        let taken = value.withLock { $0.take() }
        switch consume taken {
        case .some(let value): return value
        case .none: fatalError("a value for one use was taken twice")
        }
    }
}
