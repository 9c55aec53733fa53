internal import ArgumentParser
internal import Postcopy
internal import TestWorkload

/// How a workload ended on this side.
struct WorkloadEnding: Sendable {
    var specification: WorkloadSpecification?
    /// `nil` where the workload did not stay, or its memory is incomplete.
    var verification: Verification?
    var steps: UInt64 = 0
    var stalls: [StallProbe] = []
    /// vCPUs that touched a page which was given up.
    var vcpusInLostMemory = 0
}

/// Fills, ends and verifies the workload of one side, and shows how far it is.
struct WorkloadHost {
    let guest: WorkloadGuest
    let console: Console
    let leftovers: Leftovers

    /// Writes the initial content and starts the vCPUs.
    /// - Parameter obstacle: asked meanwhile; its answer says why there is nothing to begin for, and
    ///   ends the process.
    func begin(unless obstacle: () -> String?) throws {
        guard let workload = guest.workload else { return }
        try long("pc-fill", unless: obstacle) { progress in
            workload.fill(threads: Machine.cpuCount, progress: progress)
        }
        do {
            try workload.start()
        } catch {
            throw Refusal.environment("\(error)")
        }
    }

    /// Lets a workload that stays here run on, stops it and compares its memory with the model.
    func runOnAndVerify(_ runOn: TimeSpan) throws -> WorkloadEnding {
        guard let workload = guest.workload else { return WorkloadEnding() }
        Attendance.pass(runOn)
        var ending = stop()
        let state = workload.saveState()
        let ram = guest.ram
        ending.steps = state.stepsDone
        ending.verification = try long("pc-verify") { progress in
            try? Verification.run(
                ram: ram, state: state, threads: Machine.cpuCount, progress: progress)
        }
        return ending
    }

    /// Ends the vCPU threads; they must not wait for pages that never come.
    func stop() -> WorkloadEnding {
        guard let workload = guest.workload else { return WorkloadEnding() }
        workload.stop()
        return WorkloadEnding(
            specification: workload.specification, stalls: workload.stallProbes,
            vcpusInLostMemory: workload.lostPagesTouched.count { $0 > 0 })
    }

    /// Nothing here can be cut short, so that a request to stop ends the process.
    private func long<Output: Sendable>(
        _ name: String, unless obstacle: () -> String? = { nil },
        _ work: @escaping @Sendable (@escaping WorkloadProgressHandler) -> Output
    ) throws -> Output {
        let latest = LatestProgress()
        return try Attendance.run(name) {
            work { progress in latest.set(progress) }
        } attend: {
            if Interruption.heed() {
                console.clear()
                ProblemLine.write("interrupted")
                leftovers.removeAndExit(Interruption.exitStatus)
            }
            if let reason = obstacle() {
                console.clear()
                ProblemLine.write(reason)
                leftovers.removeAndExit(ExitCode.failure.rawValue)
            }
            if let progress = latest.value { console.show(progress) }
        }
    }
}
