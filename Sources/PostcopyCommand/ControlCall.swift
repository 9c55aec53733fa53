internal import Foundation
internal import Postcopy

/// Asks a running migration one thing.
enum ControlCall {
    /// It answers at once, whatever its link does; a host that swaps may need this long.
    static let answerNanoseconds: UInt64 = 10_000_000_000
    /// Whoever listens has room for a few who connect at once.
    private static let knockNanoseconds: UInt64 = 1_000_000_000
    /// More than any answer.
    private static let answerBytesMax = 1 << 20

    /// - Throws: `Refusal` when nobody answers at `path`.
    static func ask(
        _ request: ControlRequest, at path: String,
        withinNanoseconds limit: UInt64 = answerNanoseconds
    ) throws -> ControlAnswer {
        guard let line = try answer(to: [UInt8](request.encodedLine()), at: path, limit),
            let answer = try? ControlAnswer(decoding: Data(line))
        else {
            throw Refusal.environment(
                "\(path) does not answer: what listens there is stopped, or no 'postcopy'")
        }
        return answer
    }

    private static func answer(
        to request: [UInt8], at path: String, _ limit: UInt64
    ) throws(Refusal) -> [UInt8]? {
        do throws(ChannelError) {
            let socket = try StreamSocket.connect(
                to: .unix(path: path), timeoutNanoseconds: limit)
            socket.limitWaits(nanoseconds: limit)
            return answer(to: request, on: socket)
        } catch {
            throw refusal(error, path)
        }
    }

    /// How a control socket is found.
    enum SocketState {
        /// Somebody listens, though he may be stopped.
        case open
        /// It was left by a process that is gone.
        case stale
        case missing
    }

    static func state(of path: String) -> SocketState {
        do throws(ChannelError) {
            _ = try StreamSocket.connect(
                to: .unix(path: path), timeoutNanoseconds: knockNanoseconds)
            return .open
        } catch {
            switch error.cause {
            case .kernel(.connectionRefused): return .stale
            case .kernel(.noEntry): return .missing
            // Also where so many wait already that nobody else may.
            case .kernel, .unknownHost: return .open
            }
        }
    }

    private static func refusal(_ error: ChannelError, _ path: String) -> Refusal {
        switch error.cause {
        case .kernel(.connectionRefused), .kernel(.noEntry):
            .environment("no migration listens at \(path): it has ended, or never was there")
        case .kernel(.accessDenied):
            .environment("\(path) is of another user: ask as the user who runs the migration")
        case .kernel(.again), .kernel(.timedOut):
            .environment("\(path) does not answer: what listens there is stopped")
        case .kernel(let reason): .environment("\(path): \(reason)")
        case .unknownHost(let reason): .environment("\(path): \(reason)")
        }
    }

    private static func answer(
        to request: [UInt8], on socket: borrowing StreamSocket
    ) -> [UInt8]? {
        do throws(Errno) {
            try socket.send(request.span)
            var buffer = ReceiveBuffer(capacityBytes: answerBytesMax)
            while buffer.count < answerBytesMax {
                guard let count = try buffer.fill(from: socket, wait: true), count > 0 else {
                    return nil
                }
                let line: [UInt8]? = buffer.withBytes { bytes in
                    guard bytes[bytes.count - 1] == UInt8(ascii: "\n") else { return nil }
                    return bytes.indices.map { bytes[$0] }
                }
                if let line { return line }
            }
            return nil
        } catch { return nil }
    }
}
