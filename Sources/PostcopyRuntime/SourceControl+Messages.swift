internal import LinuxKernel
internal import PageModel
internal import StreamWire
internal import Synchronization

// What the control thread writes to the main channel, in the order of the stream.
extension SourceControl {
    func send(_ bytes: [UInt8]) throws(Errno) { try send(bytes.span) }

    func send(_ bytes: Span<UInt8>) throws(Errno) {
        state.counters.addSent(bytes.count)
        try link.main.send(bytes)
    }

    func sendSetup() throws(Errno) {
        state.counters.heardAtNanoseconds.store(Monotonic.now(), ordering: .relaxed)
        let list = state.list
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(
            machineType: state.guest.machineType,
            configuration: state.guest.streamIdentity.configuration,
            ignoresShared: list.ignoresShared, to: &bytes)
        let commands: [Command] = [
            .openReturnPath, .ping(PingValue.returnPathOpened.rawValue),
            .ping(Extensions.question),
            .postcopyAdvise(
                pageSizeSummary: list.pageSizeSummary, targetPageBytes: PageSize.target.bytes),
        ]
        for command in commands {
            StreamEncoder.appendCommand(command, blocks: [], to: &bytes)
        }
        StreamEncoder.appendSectionStart(id: state.ramSection, to: &bytes)
        state.append(state.beginList(), to: &bytes)
        StreamEncoder.appendSectionEnd(id: state.ramSection, to: &bytes)
        link.asksForExtensions.store(true, ordering: .releasing)
        try send(bytes)
    }

    func send(ping value: PingValue) throws(Errno) {
        var bytes: [UInt8] = []
        StreamEncoder.appendCommand(.ping(value.rawValue), blocks: [], to: &bytes)
        try send(bytes)
    }

    func sendPackage() throws(Errno) {
        let package = DevicePackage.encode(devices: state.guest.saveDevices())
        // From the first byte on the destination may ask: its devices may touch memory.
        state.mayServe.store(true, ordering: .releasing)
        state.returnPathFlag.raise()
        let blocks = state.geometries
        var bytes: [UInt8] = []
        StreamEncoder.appendPackage(package, to: &bytes)
        StreamEncoder.appendCommand(
            .ping(PingValue.afterPackage.rawValue), blocks: blocks, to: &bytes)
        try send(bytes)
    }

    /// Shows the destination that this link continues the migration that it knows.
    func sendHello(_ token: MigrationToken) throws(Errno) {
        var bytes: [UInt8] = []
        ChannelHello(token: token, channel: .main, attempt: link.number).append(to: &bytes)
        try send(bytes)
    }

    func sendBitmapQuestions() throws(Errno) {
        var bytes: [UInt8] = []
        for block in state.recovered {
            StreamEncoder.appendCommand(
                .receivedBitmap(block: block), blocks: state.geometries, to: &bytes)
        }
        try send(bytes)
    }

    func sendResumeCommand() throws(Errno) {
        var bytes: [UInt8] = []
        StreamEncoder.appendCommand(.postcopyResume, blocks: [], to: &bytes)
        try send(bytes)
    }

    /// Tells a destination of ours that its last word has come, so that it waits for nobody who might
    /// have missed it. A QEMU closes at once and reads nothing more.
    func acknowledgeEnd() {
        guard state.recovery.peer != nil else { return }
        var bytes: [UInt8] = []
        StreamEncoder.appendCommand(.heartbeat, blocks: [], to: &bytes)
        try? send(bytes)
    }
}
