import CShims
import Glibc
import LinuxKernel
import PageModel
import Synchronization

/// `FaultClient SOCKET FEATURES REGION...`: a process that lets somebody else bring its missing pages.
/// FEATURES are those of its userfaultfd's handshake; a REGION is a kind of memory (`anonymous`, `memfd`,
/// `hugetlb`, `hugetlb-shared`), a colon and a number of pages.
///
/// It sends the userfaultfd with a line of its regions ("ADDRESS,BYTES,PAGE;..."), and then does what it
/// is told by lines "ID COMMAND ...", several at once, and answers "ID VALUE". It ends with its socket.
@main
enum FaultClient {
    static func main() throws {
        let arguments = CommandLine.arguments
        precondition(arguments.count > 3, "SOCKET FEATURES REGION...")
        let socket = try StreamSocket.connect(to: .unix(path: arguments[1]))
        let uffd = pc_uffd_open_device()
        var supported: UInt64 = 0
        let features = UInt64(arguments[2]) ?? 0
        guard uffd >= 0, unsafe pc_uffd_handshake(uffd, features, &supported) == 0 else {
            fatalError("no userfaultfd with features \(features)")
        }
        let regions = arguments[3...].map { ClientRegion($0) }
        for region in regions { region.register(uffd) }
        var parcel = DescriptorParcel()
        try parcel.add(FileDescriptor(owning: uffd))
        let line = regions.map(\.description).joined(separator: ";") + "\n"
        try socket.send(Array(line.utf8).span, parcel)
        try ClientCommands(socket, keeping: parcel).run()
    }
}

/// Memory whose missing pages are reported.
struct ClientRegion: CustomStringConvertible {
    let address: UInt64
    let lengthBytes: UInt64
    let pageBytes: UInt64

    init(_ text: String) {
        let parts = text.split(separator: ":")
        guard parts.count == 2, let pages = UInt64(parts[1]) else { fatalError("region \(text)") }
        pageBytes = parts[0].hasPrefix("hugetlb") ? 2 << 20 : HostMemory.pageSize.bytes
        lengthBytes = pages * pageBytes
        let answer: Int64 =
            switch parts[0] {
            case "hugetlb": pc_map_huge(lengthBytes, 21)
            case "hugetlb-shared": Self.mapSharedHuge(lengthBytes)
            case "memfd":
                pc_map(unsafe pc_memfd_create("client", lengthBytes), lengthBytes, pageBytes)
            default: pc_map(-1, lengthBytes, pageBytes)
            }
        guard answer > 0 else { fatalError("no memory for \(text): errno \(-answer)") }
        address = UInt64(answer)
    }

    /// A part of such a page can be given up, other than of private ones.
    private static func mapSharedHuge(_ lengthBytes: UInt64) -> Int64 {
        let flags = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | 21 << 26
        let start = unsafe UInt(
            bitPattern: mmap(nil, Int(lengthBytes), PROT_READ | PROT_WRITE, flags, -1, 0))
        return start == .max ? -Int64(errno) : Int64(start)
    }

    func register(_ uffd: Int32) {
        var ioctls: UInt64 = 0
        let answer = unsafe pc_uffd_register(
            uffd, address, lengthBytes, UInt64(PC_UFFD_MODE_MISSING.rawValue), &ioctls)
        guard answer == 0 else { fatalError("registering: errno \(-answer)") }
    }

    var description: String { "\(address),\(lengthBytes),\(pageBytes)" }
}

/// Does what lines say, each on a thread of its own: a command may wait for a page.
final class ClientCommands: Sendable {
    private let socket: StreamSocket
    /// The client keeps its userfaultfd, as Firecracker does.
    private let parcel: DescriptorParcel
    private let writing = Mutex(())

    init(_ socket: consuming StreamSocket, keeping parcel: consuming DescriptorParcel) {
        self.socket = socket
        self.parcel = parcel
    }

    func run() throws {
        var bytes = ReceiveBuffer(capacityBytes: 65_536)
        while let count = try bytes.fill(from: socket, wait: true), count > 0 {
            var held = bytes.bytes
            while let end = held.firstIndex(of: UInt8(ascii: "\n")) {
                let words = String(decoding: held[..<end], as: UTF8.self).split(separator: " ")
                bytes.consume(end + 1)
                held.removeFirst(end + 1)
                let thread = try JoinableThread(name: "command") { [self] in
                    let value = perform(words[1], words.dropFirst(2).map { UInt64($0) ?? 0 })
                    answer("\(words[0]) \(value)\n")
                }
                thread.detach()
            }
        }
    }

    private func answer(_ line: String) {
        // The test may be gone.
        writing.withLock { _ in try? socket.send(Array(line.utf8).span) }
    }

    private func perform(_ command: Substring, _ numbers: [UInt64]) -> Int64 {
        switch command {
        case "read": return Int64(bitPattern: unsafe Self.pointer(numbers[0]).pointee)
        case "write":
            unsafe Self.pointer(numbers[0]).pointee = numbers[1]
            return 0
        case "drop": return Int64(pc_advise(numbers[0], numbers[1], PC_ADVICE_DROP))
        case "remove": return Int64(pc_advise(numbers[0], numbers[1], PC_ADVICE_REMOVE))
        case "unmap": return Int64(pc_unmap(numbers[0], numbers[1]))
        case "thread": return Int64(pc_thread_id())
        // It forks, and the parent ends.
        case "fork": return Int64(daemon(1, 1))
        case "register": return registerMore(numbers[0])
        case "move": return move()
        default: fatalError("no command '\(command)'")
        }
    }

    private static func pointer(_ address: UInt64) -> UnsafeMutablePointer<UInt64> {
        unsafe UnsafeMutablePointer(bitPattern: UInt(address))!
    }

    private func withUserfaultfd<Result>(_ body: (Int32) -> Result) -> Result {
        // It is the first one behind standard input, output, error and the socket.
        body(4)
    }

    /// Registers so many pages that nobody was told of, and answers where they begin.
    private func registerMore(_ pages: UInt64) -> Int64 {
        let region = ClientRegion("anonymous:\(pages)")
        withUserfaultfd(region.register)
        return Int64(region.address)
    }

    /// Moves registered memory: what `realloc` does with a large block that has no room to grow.
    private func move() -> Int64 {
        let (small, large, page) = (64 << 20, 128 << 20, UInt(HostMemory.pageSize.bytes))
        let above = unsafe malloc(small)
        let block = unsafe malloc(small)
        let start = UInt(bitPattern: block) & ~(page - 1)
        var ioctls: UInt64 = 0
        _ = withUserfaultfd { uffd in
            unsafe pc_uffd_register(
                uffd, UInt64(start), UInt64(small) + UInt64(page),
                UInt64(PC_UFFD_MODE_MISSING.rawValue), &ioctls)
        }
        let moved = unsafe realloc(block, large)
        _ = unsafe above
        return UInt(bitPattern: moved) & ~(page - 1) == start ? 0 : 1
    }
}
