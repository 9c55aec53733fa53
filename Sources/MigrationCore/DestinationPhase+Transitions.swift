extension DestinationPhase {
    /// A transition: where it leads, and what the runtime must do for it.
    public typealias Step = (phase: DestinationPhase, action: DestinationAction)

    /// The error number of a SHUT that says: the guest did not start here. QEMU looks at zero or not.
    public static let shutError: UInt32 = 1

    /// The phase that follows `event`, and what the runtime must do for it.
    ///
    /// Total: a command out of order fails before the commit and pauses after it; a report without
    /// meaning keeps the phase and gets `refuse`.
    public func after(_ event: DestinationEvent) -> Step {
        switch event {
        case .headReceived: afterHead()
        case .returnPathOpened: afterReturnPathOpened()
        case .advise: afterAdvise()
        case .blockList: afterBlockList()
        case .discard(let ranges): afterDiscard(ranges: Int(ranges))
        case .listen: afterListen()
        case .deviceLoaded: afterDeviceLoaded()
        case .deviceRefused: afterDeviceRefused()
        case .run: afterRun()
        case .endOfStream: afterEndOfStream()
        case .allPagesPlaced: afterAllPagesPlaced()
        case .linkLost: afterLinkLost()
        case .linkInterrupted: afterLinkInterrupted()
        case .reconnected: afterReconnected()
        case .bitmapAsked: afterBitmapAsked()
        case .resume: afterResume()
        case .givenUp: afterGivenUp()
        case .peerMisbehaved: afterTrouble(.peerMisbehaved)
        case .deadlinePassed: afterTrouble(.deadlinePassed)
        }
    }

    /// Source: `qemu_loadvm_state_header` (`savevm.c`).
    private func afterHead() -> Step {
        switch self {
        case .none: (.setup(returnPathOpen: false), .none)
        case .setup, .advised, .discarding, .listening, .loaded, .running, .streamEnded,
            .completed, .paused, .recovering, .failed:
            refusing(.head)
        }
    }

    /// A second one is harmless, as it is for QEMU.
    /// Source: `loadvm_process_command`, `MIG_CMD_OPEN_RETURN_PATH` (`savevm.c`).
    private func afterReturnPathOpened() -> Step {
        switch self {
        case .setup: (.setup(returnPathOpen: true), .none)
        case .none: refusing(.openReturnPath)
        case .advised, .discarding, .listening, .loaded, .running, .streamEnded, .completed,
            .paused, .recovering, .failed:
            (self, .none)
        }
    }

    /// Source: `loadvm_postcopy_handle_advise` (`savevm.c`). Postcopy needs the return path for page
    /// requests, so that it must be open first.
    private func afterAdvise() -> Step {
        switch self {
        case .setup(returnPathOpen: true): (.advised(blocksAgreed: false), .prepareMemory)
        case .none, .setup(returnPathOpen: false), .advised, .discarding, .listening, .loaded,
            .running, .streamEnded, .completed, .paused, .recovering, .failed:
            refusing(.advise)
        }
    }

    /// It may come again while the source's guest runs. QEMU refuses it from LISTEN on, this side from
    /// DISCARD on: the discards were counted in the lengths that they came with.
    /// Source: `ram_load_precopy`, `RAM_SAVE_FLAG_MEM_SIZE` (`ram.c`).
    private func afterBlockList() -> Step {
        switch self {
        case .advised: (.advised(blocksAgreed: true), .none)
        case .none, .setup, .discarding, .listening, .loaded, .running, .streamEnded, .completed,
            .paused, .recovering, .failed:
            refusing(.blockList)
        }
    }

    /// Source: `loadvm_postcopy_ram_handle_discard` (`savevm.c`).
    private func afterDiscard(ranges: Int) -> Step {
        switch self {
        case .advised(blocksAgreed: true): (.discarding(ranges: ranges), .dropRanges)
        case .discarding(let before): (.discarding(ranges: before + ranges), .dropRanges)
        case .none, .setup, .advised(blocksAgreed: false), .listening, .loaded, .running,
            .streamEnded, .completed, .paused, .recovering, .failed:
            refusing(.discard)
        }
    }

    /// Source: `loadvm_postcopy_handle_listen` (`savevm.c`); without DISCARD nothing was dirty.
    private func afterListen() -> Step {
        switch self {
        case .advised(blocksAgreed: true), .discarding: (.listening(.arriving), .startListening)
        case .none, .setup, .advised(blocksAgreed: false), .listening, .loaded, .running,
            .streamEnded, .completed, .paused, .recovering, .failed:
            refusing(.listen)
        }
    }

    /// Source: `loadvm_handle_cmd_packaged` and PING 0x42 behind the devices (`savevm.c`).
    private func afterDeviceLoaded() -> Step {
        switch self {
        case .listening(let progress): (.loaded(progress), .allowCommit)
        case .paused(.loading): (.paused(.loaded), .none)
        case .recovering(.loading): (.recovering(.loaded), .none)
        case .none, .setup, .advised, .discarding, .loaded, .running, .streamEnded, .completed,
            .paused, .recovering, .failed:
            (self, .refuse)
        }
    }

    /// Source: `qemu_loadvm_state_main` and its error in `process_incoming_migration_co`.
    private func afterDeviceRefused() -> Step {
        switch self {
        case .listening: afterTrouble(.deviceRefused)
        case .paused(.loading): (.failed(.deviceRefused), .closeStream)
        case .recovering(.loading):
            (.failed(.deviceRefused), .sendShut(error: Self.shutError))
        case .none, .setup, .advised, .discarding, .loaded, .running, .streamEnded, .completed,
            .paused, .recovering, .failed:
            (self, .refuse)
        }
    }

    /// RUN starts nothing once the link is down: a source that missed the commit may be a QEMU that
    /// runs the guest itself, and only a recovery can tell.
    /// Source: `loadvm_postcopy_handle_run`, `loadvm_postcopy_handle_run_bh` (`savevm.c`).
    private func afterRun() -> Step {
        switch self {
        case .loaded(.arriving): (.running(allPagesPlaced: false), .startGuest)
        case .loaded(.placed): (.running(allPagesPlaced: true), .startGuest)
        case .loaded(.ended): (.streamEnded, .startGuest)
        case .loaded(.endedAndPlaced): (.completed, .startGuestThenShut)
        case .none, .setup, .advised, .discarding, .listening, .running, .streamEnded, .completed,
            .paused, .recovering, .failed:
            refusing(.run)
        }
    }

    /// QEMU completes here even when pages are missing, and they read as zeros; this side waits.
    /// Source: `postcopy_ram_listen_thread` (`savevm.c`), `postcopy_ram_incoming_cleanup`.
    private func afterEndOfStream() -> Step {
        switch self {
        case .listening(let progress):
            progress.withEnd.map { (.listening($0), .none) } ?? refusing(.endOfStream)
        case .loaded(let progress):
            progress.withEnd.map { (.loaded($0), .none) } ?? refusing(.endOfStream)
        case .running(allPagesPlaced: true): (.completed, .sendShut(error: 0))
        case .running(allPagesPlaced: false): (.streamEnded, .awaitPages)
        case .none, .setup, .advised, .discarding, .streamEnded, .completed, .paused, .recovering,
            .failed:
            refusing(.endOfStream)
        }
    }

    /// Source: `postcopy_preempt_thread` and `postcopy_temp_page_reset` (`postcopy-ram.c`).
    private func afterAllPagesPlaced() -> Step {
        switch self {
        case .listening(let progress): (.listening(progress.withAllPages), .none)
        case .loaded(let progress): (.loaded(progress.withAllPages), .none)
        case .running: (.running(allPagesPlaced: true), .none)
        case .streamEnded: (.completed, .sendShut(error: 0))
        case .none, .setup, .advised, .discarding, .completed, .paused, .recovering, .failed:
            (self, .refuse)
        }
    }

    /// A package that is whole need not come again, but a part of one is worth nothing.
    private func afterLinkInterrupted() -> Step {
        switch self {
        case .listening: (.paused(.loading), .pause)
        case .none, .setup, .advised, .discarding, .loaded, .running, .streamEnded, .completed,
            .paused, .recovering, .failed:
            afterLinkLost()
        }
    }

    /// Source: `postcopy_pause_incoming`, `migration_incoming_process` (`migration/migration.c`).
    private func afterReconnected() -> Step {
        switch self {
        case .paused(let halt): (.recovering(halt), .none)
        case .none, .setup, .advised, .discarding, .listening, .loaded, .running, .streamEnded,
            .completed, .recovering, .failed:
            (self, .refuse)
        }
    }

    /// QEMU passes over one that comes outside a recovery; nobody sends it there.
    /// Source: `loadvm_handle_recv_bitmap` (`savevm.c`).
    private func afterBitmapAsked() -> Step {
        switch self {
        case .recovering: (self, .sendBitmap)
        case .none, .setup, .advised, .discarding, .listening, .loaded, .running, .streamEnded,
            .completed, .paused, .failed:
            refusing(.receivedBitmap)
        }
    }

    /// Whether pages are missing and whether the devices are loaded is reported anew behind it.
    /// Source: `loadvm_postcopy_handle_resume` (`savevm.c`).
    private func afterResume() -> Step {
        switch self {
        case .recovering(.loading): (.listening(.arriving), .resumePages)
        case .recovering(.loaded): (.loaded(.arriving), .resumePages)
        case .recovering(.running): (.running(allPagesPlaced: false), .resumePages)
        case .none, .setup, .advised, .discarding, .listening, .loaded, .running, .streamEnded,
            .completed, .paused, .failed:
            refusing(.resume)
        }
    }

    /// A source that comes back hears that the guest never ran here, and may run it again.
    private func afterGivenUp() -> Step {
        switch self {
        case .listening, .recovering(.loading), .recovering(.loaded):
            (.failed(.givenUp), .sendShut(error: Self.shutError))
        case .paused(.loading), .paused(.loaded): (.failed(.givenUp), .closeStream)
        case .none, .setup, .advised, .discarding, .loaded, .running, .streamEnded, .completed,
            .paused(.running), .recovering(.running), .failed:
            (self, .refuse)
        }
    }

    /// Source: `postcopy_pause_incoming` (`savevm.c`); before RUN QEMU exits.
    private func afterLinkLost() -> Step {
        switch self {
        case .none, .setup, .advised, .discarding, .listening: (.failed(.linkLost), .closeStream)
        case .loaded: (.paused(.loaded), .pause)
        case .running, .streamEnded: (.paused(.running), .pause)
        case .recovering(let halt): (.paused(halt), .pause)
        case .completed, .paused, .failed: (self, .none)
        }
    }

    /// A command out of order: a failure with its name, or a pause once the guest is here.
    private func refusing(_ command: CommandOutOfOrder.Command) -> Step {
        afterTrouble(.outOfOrder(CommandOutOfOrder(command, in: name)))
    }

    /// Trouble while the link holds, so that the source can be told where that is due.
    /// Source: `process_incoming_migration_co` and `migrate_send_rp_shut` (`migration.c`).
    private func afterTrouble(_ failure: DestinationFailure) -> Step {
        switch self {
        case .none, .setup(returnPathOpen: false): (.failed(failure), .closeStream)
        case .setup(returnPathOpen: true), .advised, .discarding, .listening:
            (.failed(failure), .sendShut(error: Self.shutError))
        case .loaded: (.paused(.loaded), .pause)
        case .running, .streamEnded: (.paused(.running), .pause)
        case .recovering(let halt): (.paused(halt), .pause)
        case .completed, .paused, .failed: (self, .none)
        }
    }
}
