import Synchronization
import TestSupport
import Testing

@testable import Postcopy

@Suite(.timeLimit(.minutes(2))) struct ObserverTests {
    @Test("one that is attached only behind the end hears how it ended, and that it did")
    func late() throws {
        let session = try SourceSession(
            guest: SampleGuest(megabytes: 1), options: MigrationOptions())
        let heard = Mutex<[MigrationStatus]>([])
        let hasEnded = try EventFlag()
        let observer = try Observer<SourceSession>(everyNanoseconds: 0) { news in
            switch news {
            case .status(let progress): heard.withLock { $0.append(progress.status) }
            case .figures: break
            case .end: hasEnded.raise()
            }
        }
        observer.end(of: session, in: .cancelled)
        observer.attach(session)
        #expect(hasEnded.wait(timeoutNanoseconds: 20_000_000_000))
        #expect(heard.withLock { $0 } == [.cancelled])
    }

    @Test("who asks while a migration ends hears the end")
    func around() throws {
        for _ in 0..<50 {
            let guest = try SampleGuest(megabytes: 1)
            let source = try MigrationSource(guest: guest)
            let hasEnded = try EventFlag()
            let asking = try Bounded("asker") {
                Result { () throws(Errno) in
                    try source.observe(everyNanoseconds: 0) { progress in
                        if progress.status == .failed { hasEnded.raise() }
                    }
                }
            }
            #expect(try source.run(to: .unix(path: "/nowhere")).status == .failed)
            _ = try #require(asking.output()).get()
            #expect(hasEnded.wait(timeoutNanoseconds: 20_000_000_000))
        }
    }
}
