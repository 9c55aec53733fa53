import MigrationCore
import PageModel
import StreamWire
import Synchronization

// What the control thread does on the first link: the precopy, the package and the end.
extension SourceControl {
    func connectFirst() {
        world.parts.destination.door.connect(isSource: true, worker: self) { [self] socket in
            guard let socket else { return apply(.linkLost, "nobody answers") }
            let link = SourceLink(socket, attempt: 0, now: world.now)
            state.link = link
            job = .idle
            state.returnPath.begin(link, offered: nil)
            world.reached(.connected)
            apply(.connected, "")
            goOn()
        }
        job = .idle
    }

    func sendSetup() {
        let summary = state.blocks.reduce(UInt64(0x1000)) { $0 | $1.hostPage.bytes }
        write { bytes in
            StreamEncoder.appendHead(machineType: "small-1", to: &bytes)
            for command: Command in [
                .openReturnPath, .ping(PingValue.returnPathOpened.rawValue),
                .ping(Extensions.question),
                .postcopyAdvise(pageSizeSummary: summary, targetPageBytes: 4096),
            ] {
                StreamEncoder.appendCommand(command, blocks: [], to: &bytes)
            }
            StreamEncoder.appendSectionStart(id: SourceSide.section, to: &bytes)
            StreamEncoder.appendBlockList(state.listed, to: &bytes)
            StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &bytes)
        }
    }

    func connectUrgent() {
        waitsForUrgent = true
        world.parts.destination.door.connect(isSource: true, worker: self) {
            [self, link = state.link] socket in
            waitsForUrgent = false
            guard let link, state.link === link, !link.isShutDown else {
                return socket?.close() ?? ()
            }
            guard let socket else { return apply(.linkLost, "no urgent channel") }
            socket.listen(reader: nil, writer: state.returnPath)
            link.urgent = socket
            state.returnPath.greet(link)
            goOn()
        }
    }

    /// One step of the precopy: a look at what was written, or a run of pages.
    func precopy(_ steps: Int) {
        guard steps > 0 else {
            guard !waitsForUrgent else { return goOn(at: world.now + Time.millisecond) }
            job = .idle
            apply(.startPostcopy, "")
            return goOn()
        }
        job = .precopy(steps: steps - 1)
        if world.draw(4) == 0 {
            syncLog()
        } else {
            let block = world.draw(state.blocks.count)
            let start = world.draw(state.blocks[block].targetPageCount)
            if let run = state.dirty[block].takeRun(from: start, countMax: 1 + world.draw(12)) {
                state.sent[block].insert(run)
                job = .encode(block: block, pages: run, steps: steps - 1)
            }
        }
        goOn()
    }

    private func syncLog() {
        for block in state.blocks.indices {
            for page in 0..<state.blocks[block].targetPageCount where guest.takeLog(block, page) {
                state.dirty[block].insert(page..<page + 1)
            }
        }
    }

    func sendDiscards() {
        syncLog()
        var count = 0
        for (dirty, sent) in zip(state.dirty, state.sent) {
            dirty.canonicalize(sent: sent)
            count += dirty.dirtyCount
        }
        state.owed.remaining.store(count, ordering: .relaxed)
        let sink = { (bytes: Span<UInt8>) in
            var copy: [UInt8] = []
            for index in bytes.indices { copy.append(bytes[index]) }
            self.write { $0 += copy }
        }
        for dirty in state.dirty { discardEncoder.encode(dirty, to: sink) }
        discardEncoder.finish(to: sink)
        job = .discards
    }

    func sendPackage() {
        state.link?.mayServe = true
        // It waits as long as is right for a guest that stays.
        state.returnPath.goOn()
        var devices: [UInt8] = []
        DeviceSection(id: 9, name: "cpu", instance: 0, version: 1, state: [1, 2, 3])
            .encode(to: &devices)
        write { StreamEncoder.appendPackage(DevicePackage.encode(devices: devices), to: &$0) }
        send(.ping(PingValue.afterPackage.rawValue))
        world.reached(.packageBegun)
        job = .endPackage
    }

    func sendEnd() {
        world.reached(.endSent)
        write { bytes in
            StreamEncoder.appendSectionResumed(id: SourceSide.section, last: true, to: &bytes)
            StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &bytes)
            StreamEncoder.appendEndOfStream(to: &bytes)
        }
        state.link?.endsUrgent = true
        state.returnPath.goOn()
    }
}
