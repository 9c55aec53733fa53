/* How a migration runs, where it stands and how it ended: structs of both sides. */
#ifndef POSTCOPY_OPTIONS_H
#define POSTCOPY_OPTIONS_H

#include "guest.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What either side calls the stages of a migration, as QEMU does. */
enum {
    /* Nothing was asked for yet. */
    POSTCOPY_STATUS_NONE = 0,
    /* The channel is open and the sides agree on what they are. */
    POSTCOPY_STATUS_SETUP = 1,
    /* The guest runs at the source. */
    POSTCOPY_STATUS_ACTIVE = 2,
    /* The guest is stopped at the source and may still go back. */
    POSTCOPY_STATUS_DEVICE = 3,
    /* The guest's devices travel; who runs the guest is not yet agreed. */
    POSTCOPY_STATUS_POSTCOPY_DEVICE = 4,
    /* The guest lives at the destination and pages are owed to it. */
    POSTCOPY_STATUS_POSTCOPY_ACTIVE = 5,
    /* The link is down and the guest waits for a new one. */
    POSTCOPY_STATUS_POSTCOPY_PAUSED = 6,
    /* A new link is there and the sides agree on what is still owed. */
    POSTCOPY_STATUS_POSTCOPY_RECOVER = 7,
    /* Every page is at the destination. */
    POSTCOPY_STATUS_COMPLETED = 8,
    /* The guest stays at the source, because something went wrong. */
    POSTCOPY_STATUS_FAILED = 9,
    /* The guest stays at the source, because somebody asked for it. */
    POSTCOPY_STATUS_CANCELLED = 10
};

/* QEMU's name of a status, "postcopy-active"; a constant, "unknown" for other numbers. */
const char *postcopy_status_name(uint32_t status);

/* Bits of postcopy_options.flags. */
enum {
    /* Source: sends memory while the guest runs. Without it the guest moves first and all of its
     * memory follows. */
    POSTCOPY_PRECOPY = 1 << 0,
    /* Source: with precopy, it ends only as the limits below say and by
     * postcopy_source_start_postcopy. */
    POSTCOPY_NO_AUTOMATIC_SWITCH = 1 << 1,
    /* Source: with precopy, slows the vCPUs where more is dirtied than sent. */
    POSTCOPY_AUTO_CONVERGE = 1 << 2,
    /* Source: urgent pages share the channel of all others. */
    POSTCOPY_NO_PREEMPT = 1 << 3,
    /* Source: connects the urgent channel right behind the main one, as a QEMU up to 7.2
     * expects. */
    POSTCOPY_PREEMPT_AT_SETUP = 1 << 4,
    /* Source: gives memory back as it is sent, once the guest has moved. It cannot come back then,
     * nor can a migration whose link breaks. */
    POSTCOPY_RELEASE_RAM = 1 << 5,
    /* Destination: rebuilds transparent huge pages once every page is there. */
    POSTCOPY_HEAL = 1 << 6,
    /* Both sides: memory that both map from one file (shared_file) is not sent. */
    POSTCOPY_IGNORE_SHARED = 1 << 7
};

/* What follows when the link breaks once the guest may have moved. */
enum {
    /* The source comes back by itself for `recovery_time`, then waits for postcopy_source_recover
     * or postcopy_source_abandon. */
    POSTCOPY_RECOVER_AUTOMATICALLY = 0,
    /* It waits for them at once. */
    POSTCOPY_RECOVER_BY_HAND = 1,
    /* The migration ends paused. */
    POSTCOPY_RECOVER_NEVER = 2
};

/* No limit on the downtime: a precopy never completes by itself. */
#define POSTCOPY_NO_DOWNTIME_LIMIT UINT64_MAX

/* Where a migration stands; of one side, what is said to be of the other is 0. */
typedef struct postcopy_progress {
    /* sizeof(postcopy_progress). */
    size_t size;
    /* POSTCOPY_STATUS_... */
    uint32_t status;
    /* 1: paused, and nothing happens until somebody recovers the migration or abandons it. */
    uint32_t waits_for_somebody;
    /* Pages of the side: 4096 bytes at a source, host pages at a destination. */
    uint64_t pages_total;
    /* Source: not sent yet. Destination: missing. */
    uint64_t pages_remaining;
    /* Source: sent. Destination: received. */
    uint64_t bytes;
    /* 4096 bytes each: sent as content, and as zero (which is all that a destination counts
     * apart). */
    uint64_t pages_normal;
    uint64_t pages_zero;
    /* Of those, the ones that somebody waited for. */
    uint64_t pages_urgent;
    /* Page requests: received by a source, sent by a destination. */
    uint64_t requests;
    /* Destination: threads seen waiting for a page. */
    uint64_t faults;
    /* Source, precopy: passes through memory that have ended, and what was measured in the last. */
    uint64_t rounds;
    uint64_t bytes_per_second;
    uint64_t dirty_pages_per_second;
    uint32_t throttle_percent;
    /* Links that broke once the guest may have moved. */
    uint32_t breaks;
} postcopy_progress;

/* How a migration runs. Both sides take the same struct, and leave out what is the other's. */
typedef struct postcopy_options {
    /* sizeof(postcopy_options). */
    size_t size;
    uint32_t flags;
    /* POSTCOPY_RECOVER_... */
    uint32_t recovery;
    /* How long a peer may keep silent while it owes something, in nanoseconds. 0: 10 s. */
    uint64_t silence_limit;
    /* Source: how long `pause` and `save` may take in all, in nanoseconds; then the guest goes on
     * here and the migration has failed. 0: 5 s. */
    uint64_t pause_limit;
    /* How long a channel may bring nothing once the guest moves, before the link has broken, in
     * nanoseconds. 0: 250 ms. */
    uint64_t link_limit;
    /* Source: for how long it comes back by itself, in nanoseconds. 0: 300 s. */
    uint64_t recovery_time;
    /* Source: where else the destination may be reached, tried in turn behind the first address. */
    const char *const *recovery_addresses;
    size_t recovery_address_count;
    /* Source: bytes per second until the guest is stopped, and of background pages once it has
     * moved. 0: no limit. */
    uint64_t max_bandwidth;
    uint64_t max_postcopy_bandwidth;
    /* With precopy: how long the guest runs on, connected, before the first page is sent, in ns. */
    uint64_t warm_up;
    /* With precopy: the longest that the guest may stand still for it to complete, in ns. 0: 300
     * ms. */
    uint64_t downtime_limit;
    /* With precopy: the guest moves after that long, in ns, or that many passes. 0: not by that. */
    uint64_t switch_after;
    uint64_t switch_after_rounds;
    /* With POSTCOPY_AUTO_CONVERGE, in percent. 0: 20, 10 and 99. */
    uint32_t throttle_initial;
    uint32_t throttle_increment;
    uint32_t throttle_max;
    /* 0. */
    uint32_t reserved;
    /* Called with `progress_context` for each status that is entered, in order, and whenever
     * `progress_interval` nanoseconds have passed without one (0: a second; at least 10 ms), for as
     * long as the migration runs, and for the last time just before it has ended. One call at a
     * time; the migration does not wait for it, but for the last: what was entered while a call took
     * until the end is not told any more. `progress` is valid until this
     * returns. NULL: not called. */
    void (*on_progress)(void *progress_context, const postcopy_progress *progress);
    void *progress_context;
    uint64_t progress_interval;
} postcopy_options;

/* What a source may take of the link, and of its guest's time. */
typedef struct postcopy_limits {
    /* sizeof(postcopy_limits). */
    size_t size;
    /* As in postcopy_options; 0: no limit. */
    uint64_t max_bandwidth;
    uint64_t max_postcopy_bandwidth;
    /* In nanoseconds; POSTCOPY_NO_DOWNTIME_LIMIT: none, also of a source without precopy. 0: as it
     * is. */
    uint64_t downtime_limit;
} postcopy_limits;

/* Bits of `flags` in both reports. */
enum {
    /* The guest is left running at this side; at a destination its threads may wait for pages. */
    POSTCOPY_GUEST_RUNS_HERE = 1 << 0,
    /* Somebody gave the guest up, here, while it was paused. */
    POSTCOPY_ABANDONED = 1 << 1,
    /* Source: the last pages were sent while the guest was stopped, so that none was owed. */
    POSTCOPY_REST_WAS_SENT = 1 << 2
};

/* How a source's migration ended. Instants are of CLOCK_MONOTONIC, in nanoseconds; 0: it did not
 * come to that. Texts and arrays belong to the source. */
typedef struct postcopy_source_report {
    /* sizeof(postcopy_source_report). */
    size_t size;
    uint32_t status;
    uint32_t flags;
    /* What went wrong and what it means, in one line; NULL when nothing did. */
    const char *problem;
    uint64_t started_at;
    uint64_t ended_at;
    uint64_t guest_stopped_at;
    /* When the destination's word arrived that it runs the guest. */
    uint64_t committed_at;
    /* Between those two, in nanoseconds. */
    uint64_t downtime;
    uint64_t bytes_precopy;
    uint64_t bytes_downtime;
    uint64_t bytes_postcopy;
    /* Of 4096 bytes. */
    uint64_t pages_normal;
    uint64_t pages_zero;
    uint64_t pages_urgent;
    uint64_t requests;
    /* Passes of a precopy, and pages that were owed once the guest had moved. */
    uint64_t rounds;
    uint64_t pages_owed;
    uint64_t discard_ranges;
    uint64_t breaks;
} postcopy_source_report;

/* How a destination's migration ended; see postcopy_source_report. */
typedef struct postcopy_destination_report {
    /* sizeof(postcopy_destination_report). */
    size_t size;
    uint32_t status;
    uint32_t flags;
    const char *problem;
    uint64_t guest_running_at;
    uint64_t ended_at;
    uint64_t bytes_received;
    /* Of 4096 bytes: placed in order, because somebody waited, and of both, those that were
     * zero. */
    uint64_t pages_background;
    uint64_t pages_urgent;
    uint64_t pages_zero;
    uint64_t requests;
    uint64_t faults;
    /* How long each vCPU waited for pages, in nanoseconds, in the order of `vcpu_threads`. */
    const uint64_t *vcpu_blocktime;
    size_t vcpu_count;
    /* How long all of them waited at once. */
    uint64_t overlapped_blocktime;
    /* Waits of all threads: how many, and how long in nanoseconds. */
    uint64_t waits;
    uint64_t wait_mean;
    uint64_t wait_p50;
    uint64_t wait_p99;
    uint64_t wait_max;
    /* Blocks of which pages are missing. */
    const postcopy_missing *missing;
    size_t missing_count;
    uint64_t breaks;
} postcopy_destination_report;

#ifdef __cplusplus
}
#endif
#endif
