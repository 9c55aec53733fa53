import Glibc
import LinuxKernel
import Synchronization
import VhostUser

/// A back-end of vhost-user that has no device: it maps the memory that it is given, and reads and writes
/// all of it while its pages are still coming. Told what it should find, it says whether it did.
///
///     SharedClientProgram SOCKET SEED THREADS [stray]
///
/// It listens on the socket, says `listening`, serves one front-end, and touches memory once ring 0 is
/// enabled. With `stray` it faults beside its table as well.
@main
enum SharedClientProgram {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count >= 4, let seed = UInt64(arguments[2]),
            let threads = Int(arguments[3])
        else {
            say("usage: SharedClientProgram SOCKET SEED THREADS [stray]")
            exit(64)
        }
        do {
            let listener = try Listener(at: .unix(path: arguments[1]))
            say("listening")
            var backend = Backend(
                try listener.accept(), seed: seed, threadCount: threads,
                faultsBesideTable: arguments.dropFirst(4).contains("stray"))
            try backend.serve()
            exit(0)
        } catch {
            say("failed: \(error)")
            exit(1)
        }
    }
}

/// Writes a line to standard output, at once.
func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = unsafe write(1, bytes, bytes.count)
}
