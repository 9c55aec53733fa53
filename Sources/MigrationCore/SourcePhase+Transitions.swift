extension SourcePhase {
    /// A transition: where it leads, and what the runtime must do for it.
    public typealias Step = (phase: SourcePhase, action: SourceAction)

    /// The phase that follows `event`, and what the runtime must do for it.
    ///
    /// Total: an event without meaning keeps the phase. The runtime's own reports then get
    /// `refuse`, so that a report may serve as a question (`packageStarted`).
    public func after(_ event: SourceEvent) -> Step {
        switch event {
        case .connected: afterConnected()
        case .returnPathAnswered: afterReturnPathAnswered()
        case .startPostcopy: afterStartPostcopy()
        case .restFits: afterRestFits()
        case .trackingFailed: afterTrouble(.trackingFailed)
        case .guestStopped: afterGuestStopped()
        case .packageStarted: afterPackageStarted()
        case .packageSent: afterPackageSent()
        case .committed: afterCommitted()
        case .allPagesSent: afterAllPagesSent()
        case .shut(let error): error == 0 ? afterSuccess() : afterRefusal(error: error)
        case .linkLost: afterTrouble(.linkLost)
        case .deadlinePassed: afterTrouble(.deadlinePassed)
        case .cancel: afterCancel()
        case .peerMisbehaved: afterTrouble(.peerMisbehaved)
        case .reconnected: afterReconnected()
        case .bitmapsReceived: afterBitmapsReceived()
        case .resumed: afterResumed()
        }
    }

    /// Source: `qemu_savevm_state_header`, `qemu_savevm_send_open_return_path` (`savevm.c`).
    private func afterConnected() -> Step {
        switch self {
        case .none: (.setup(startRequested: false), .sendSetup)
        case .setup, .active, .stopping, .device, .sendingPackage, .postcopyDevice,
            .postcopyActive, .completing, .completed, .paused, .recovering, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// A second PONG 1 is harmless, as it is for QEMU.
    /// Source: `source_return_path_thread`, `MIG_RP_MSG_PONG` (`migration.c`).
    private func afterReturnPathAnswered() -> Step {
        switch self {
        case .setup(startRequested: false): (.active, .awaitStart)
        case .setup(startRequested: true): (.stopping(.postcopy), .stopGuest)
        case .none, .active, .stopping, .device, .sendingPackage, .postcopyDevice,
            .postcopyActive, .completing, .completed, .paused, .recovering, .failed, .cancelled:
            (self, .none)
        }
    }

    /// Source: `qmp_migrate_start_postcopy`, `postcopy_start` (`migration.c`).
    private func afterStartPostcopy() -> Step {
        switch self {
        case .setup: (.setup(startRequested: true), .none)
        case .active: (.stopping(.postcopy), .stopGuest)
        case .none, .stopping, .device, .sendingPackage, .postcopyDevice, .postcopyActive,
            .completing, .completed, .paused, .recovering, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// Source: `migration_iteration_run`, `migration_completion_precopy` (`migration.c`).
    private func afterRestFits() -> Step {
        switch self {
        case .active: (.stopping(.precopy), .stopGuest)
        case .none, .setup, .stopping, .device, .sendingPackage, .postcopyDevice, .postcopyActive,
            .completing, .completed, .paused, .recovering, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// A precopy that completes sends a package as well, with nothing owed behind it: only there does
    /// the destination say, to PING 0x42, that it runs the guest.
    /// Source: `migration_stop_vm` in `postcopy_start`; `ram_postcopy_send_discard_bitmap`.
    private func afterGuestStopped() -> Step {
        switch self {
        case .stopping(.postcopy): (.device, .sendDiscards)
        case .stopping(.precopy): (.device, .sendRest)
        // The stop was under way when the migration ended: undo it.
        case .failed, .cancelled: (self, .resumeGuest)
        case .none, .setup, .active, .device, .sendingPackage, .postcopyDevice, .postcopyActive,
            .completing, .completed, .paused, .recovering:
            (self, .refuse)
        }
    }

    /// Source: `qemu_savevm_send_packaged` in `postcopy_start` (`migration.c`).
    private func afterPackageStarted() -> Step {
        switch self {
        case .device: (.sendingPackage(committed: false), .sendPackage)
        case .none, .setup, .active, .stopping, .sendingPackage, .postcopyDevice, .postcopyActive,
            .completing, .completed, .paused, .recovering, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// Source: `postcopy_start`, its change to `POSTCOPY_DEVICE` (`migration.c`).
    private func afterPackageSent() -> Step {
        switch self {
        case .sendingPackage(committed: false):
            (.postcopyDevice(allPagesSent: false), .streamPages)
        case .sendingPackage(committed: true): (.postcopyActive, .streamPages)
        case .none, .setup, .active, .stopping, .device, .postcopyDevice, .postcopyActive,
            .completing, .completed, .paused, .recovering, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// Source: `source_return_path_thread`, `QEMU_VM_PING_PACKAGED_LOADED` (`migration.c`).
    private func afterCommitted() -> Step {
        switch self {
        case .setup, .active, .stopping, .device:
            // Nobody can have loaded a package of which no byte is written.
            afterTrouble(.peerMisbehaved)
        case .sendingPackage: (.sendingPackage(committed: true), .none)
        case .postcopyDevice(allPagesSent: false): (.postcopyActive, .none)
        case .postcopyDevice(allPagesSent: true): (.completing, .sendEnd)
        case .paused(.beforeCommit): (.paused(.afterCommit), .none)
        case .recovering(.beforeCommit): (.recovering(.afterCommit), .none)
        case .none, .postcopyActive, .completing, .completed, .paused, .recovering, .failed,
            .cancelled:
            (self, .none)
        }
    }

    /// Source: `migration_completion_postcopy` (`migration.c`).
    private func afterAllPagesSent() -> Step {
        switch self {
        case .postcopyDevice: (.postcopyDevice(allPagesSent: true), .awaitCommit)
        case .postcopyActive: (.completing, .sendEnd)
        case .none, .setup, .active, .stopping, .device, .sendingPackage, .completing, .completed,
            .paused, .recovering, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// SHUT 0. After the end of the stream it completes even a source that has paused meanwhile: the
    /// destination closes its channels once it has everything, and the loss may be noticed first.
    /// Source: `source_return_path_thread`, `MIG_RP_MSG_SHUT` (`migration.c`).
    private func afterSuccess() -> Step {
        switch self {
        case .completing, .paused(.afterEnd), .recovering(.afterEnd): (.completed, .finish)
        case .setup, .active, .stopping, .device, .sendingPackage, .postcopyDevice,
            .postcopyActive, .recovering:
            afterTrouble(.peerMisbehaved)
        case .none, .completed, .paused(.beforeCommit), .paused(.afterCommit), .failed, .cancelled:
            (self, .none)
        }
    }

    /// SHUT with an error. Before the commit it is the destination's word that the guest never ran
    /// there, and it counts even when the broken link was noticed first.
    /// Source: `source_return_path_thread`, `MIG_RP_MSG_SHUT` (`migration.c`).
    private func afterRefusal(error: UInt32) -> Step {
        let failure = SourceFailure.endedByDestination(error: error)
        return switch self {
        case .setup, .active: (.failed(failure), .keepGuestRunning)
        case .stopping, .device, .sendingPackage(committed: false), .postcopyDevice,
            .paused(.beforeCommit), .recovering(.beforeCommit):
            (.failed(failure), .resumeGuest)
        // It said that it would run the guest and cannot take that back.
        case .sendingPackage(committed: true), .postcopyActive, .completing,
            .recovering(.afterCommit), .recovering(.afterEnd):
            afterTrouble(.peerMisbehaved)
        case .none, .completed, .paused(.afterCommit), .paused(.afterEnd), .failed, .cancelled:
            (self, .none)
        }
    }

    /// Source: `migrate_prepare`, `migrate_fd_connect` with `resume` (`migration/migration.c`).
    private func afterReconnected() -> Step {
        switch self {
        case .paused(let point): (.recovering(point), .askBitmaps)
        case .none, .setup, .active, .stopping, .device, .sendingPackage, .postcopyDevice,
            .postcopyActive, .completing, .completed, .recovering, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// Source: `ram_dirty_bitmap_sync_all`, `postcopy_resume_handshake` (`ram.c`, `migration.c`).
    private func afterBitmapsReceived() -> Step {
        switch self {
        case .recovering: (self, .sendResume)
        case .none, .setup, .active, .stopping, .device, .sendingPackage, .postcopyDevice,
            .postcopyActive, .completing, .completed, .paused, .failed, .cancelled:
            (self, .refuse)
        }
    }

    /// What is owed is what was not received: after the end of the stream that may be nothing, and the
    /// end is sent again.
    /// Source: `migrate_handle_rp_resume_ack` (`migration.c`).
    private func afterResumed() -> Step {
        switch self {
        case .recovering(.beforeCommit): (.postcopyDevice(allPagesSent: false), .streamPages)
        case .recovering(.afterCommit), .recovering(.afterEnd): (.postcopyActive, .streamPages)
        case .none, .setup, .active, .stopping, .device, .sendingPackage, .postcopyDevice,
            .postcopyActive, .completing, .completed, .paused, .failed, .cancelled:
            (self, .none)
        }
    }

    /// Source: `migration_detect_error`, `postcopy_pause`, `migration_iteration_finish`.
    private func afterTrouble(_ failure: SourceFailure) -> Step {
        switch self {
        case .none, .setup, .active: (.failed(failure), .keepGuestRunning)
        case .stopping, .device: (.failed(failure), .resumeGuest)
        case .sendingPackage(committed: false), .postcopyDevice: (.paused(.beforeCommit), .pause)
        case .sendingPackage(committed: true), .postcopyActive: (.paused(.afterCommit), .pause)
        case .completing: (.paused(.afterEnd), .pause)
        // The new link broke as well: the next one begins anew.
        case .recovering(let point): (.paused(point), .pause)
        case .completed, .paused, .failed, .cancelled: (self, .none)
        }
    }

    /// Source: `qmp_migrate_cancel`, `migration_cancel` (`migration.c`).
    private func afterCancel() -> Step {
        switch self {
        case .none, .setup, .active: (.cancelled, .keepGuestRunning)
        case .stopping, .device: (.cancelled, .resumeGuest)
        case .sendingPackage, .postcopyDevice, .postcopyActive, .completing, .completed, .paused,
            .recovering:
            (self, .refuseCancel)
        case .failed, .cancelled: (self, .none)
        }
    }
}
