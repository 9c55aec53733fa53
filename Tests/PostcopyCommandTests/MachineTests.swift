import Testing

@testable import PostcopyCommand

@Suite struct MachineTests {
    /// As /proc/self/limits says it.
    private func limits(_ openFiles: String) -> String {
        """
        Limit                     Soft Limit           Hard Limit           Units
        Max processes             12                   12                   processes
        Max open files            \(openFiles)                 1048576              files
        """
    }

    @Test("too few descriptors are refused with the remedy", arguments: [0, 12, 16, 20, 28, 63])
    func tooFew(count: Int) {
        let error = #expect(throws: Refusal.self) {
            try Machine.checkDescriptors(limits: limits("\(count)"))
        }
        #expect(error?.description.contains("only \(count) files") == true)
        #expect(error?.description.contains("ulimit -n") == true)
    }

    @Test("enough, no limit and a limit that is not known are taken", arguments: ["64", "1024"])
    func enough(count: String) throws {
        try Machine.checkDescriptors(limits: limits(count))
        try Machine.checkDescriptors(limits: limits("unlimited"))
        try Machine.checkDescriptors(limits: "")
        try Machine.checkDescriptors()
    }
}
