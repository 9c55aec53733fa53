/* Missing pages served by the embedder, without a migration: from a file, an object store, a
 * compressed snapshot. */
#ifndef POSTCOPY_FAULTS_H
#define POSTCOPY_FAULTS_H

#include "guest.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Serves the missing pages of memory: on demand, and in the background where it is asked to. */
typedef struct postcopy_faults postcopy_faults;

/* What `read` answers; anything else is an error. */
enum {
    /* All bytes were filled. */
    POSTCOPY_PAGES_FILLED = 0,
    /* All of it is zero: what is in the bytes does not matter. */
    POSTCOPY_PAGES_ZERO = 1
};

/* What became of a page that could not be served. */
enum {
    /* Whoever waits for it, or touches it later, gets SIGBUS. */
    POSTCOPY_PAGE_POISONED = 0,
    POSTCOPY_PAGE_READS_ZERO = 1,
    /* Whoever waits for it waits until the handler stops. */
    POSTCOPY_PAGE_WAITS = 2
};

/* Bits of postcopy_faults_options.flags. */
enum {
    /* Memory of this process that is given up (madvise) while it is served has its content again
     * when it is next touched, so that it can be a cache. Otherwise it reads as zeros from then
     * on. */
    POSTCOPY_REREAD_REMOVED = 1 << 0,
    /* Before Linux 6.6, which has no SIGBUS for it: a page that cannot be read is zero. Otherwise
     * it waits. */
    POSTCOPY_UNREADABLE_IS_ZERO = 1 << 1,
    /* Pages that are missing when the handler stops are lost (SIGBUS; zeros before Linux 6.6): as
     * those of another process's memory always are. Otherwise they read as zeros. */
    POSTCOPY_MISSING_IS_LOST = 1 << 2
};

/* Memory of another process, at its addresses there. */
typedef struct postcopy_region {
    uint64_t address;
    uint64_t length;
    /* Where its content begins in `file`. */
    uint64_t content_offset;
    uint64_t page_size;
} postcopy_region;

typedef struct postcopy_lost_page {
    /* Its block or region, and where it lies in it; UINT32_MAX for a fault outside of all. */
    uint32_t block;
    /* POSTCOPY_PAGE_... */
    uint32_t outcome;
    uint64_t offset;
    /* In the process whose memory it is. */
    uint64_t address;
    /* The last error; valid during the call. */
    const char *problem;
} postcopy_lost_page;

/* What to serve, and from where. Arrays and texts are copied; context and callbacks are kept. */
typedef struct postcopy_faults_options {
    /* sizeof(postcopy_faults_options). */
    size_t size;
    /* Handed to every callback. */
    void *context;
    /* Memory of this process; or `ram_count` 0, and `regions`. */
    postcopy_ram *const *ram;
    size_t ram_count;
    /* Memory of another process, which has registered it with `userfaultfd`. The library takes a
     * duplicate of that descriptor, and the caller closes its own. */
    const postcopy_region *regions;
    size_t region_count;
    int32_t userfaultfd;
    /* POSTCOPY_FAULTS_...; for memory of this process. */
    uint32_t fault_origin;
    uint32_t flags;
    /* Threads that read and place pages that somebody waits for, at most 64. 0: 2. */
    uint32_t workers;
    /* How often a page is read that cannot be had, at most 100. 0: 3. */
    uint32_t attempts;
    /* What the background reads at once, in bytes, 4096 to 1 MiB. 0: 128 KiB. */
    uint32_t background_bytes;
    /* The pause before the second attempt, in nanoseconds, at most a second; each further one is
     * four times as long. 0: 2 ms. */
    uint64_t attempt_pause;

    /* Fills `length` bytes, whole pages, with the content from `offset` of a block or region on.
     * Several calls at once, never for the same page. It may wait; it must not touch the memory
     * that is served.
     * Answers POSTCOPY_PAGES_..., or anything else when the content cannot be had now, and then may
     * have written the reason to `why`, at most POSTCOPY_WHY_BYTES of it. NULL: the content is in
     * `file`. */
    int32_t (*read)(
        void *context, uint32_t block, uint64_t offset, void *bytes, size_t length, char *why);
    /* The content of all blocks, one behind the other, or of the regions at their places; NULL:
     * `read` has it. */
    const char *file;
    /* Told of each page that could not be served, on a thread that serves nobody meanwhile. Or
     * NULL. */
    void (*page_lost)(void *context, const postcopy_lost_page *page);
    /* Told once when the handler ends by itself: nobody is served any more. Or NULL. */
    void (*ended)(void *context, const char *problem);
} postcopy_faults_options;

/* How far a handler has come. Pages are host pages. */
typedef struct postcopy_faults_progress {
    /* sizeof(postcopy_faults_progress). */
    size_t size;
    uint64_t faults;
    /* Placed because somebody waited, in the background, and of both, those that were zero. */
    uint64_t pages_urgent;
    uint64_t pages_background;
    uint64_t pages_zero;
    /* Of 4096 bytes: given up by their user, and zero since. */
    uint64_t pages_removed;
    uint64_t pages_lost;
    uint64_t pages_missing;
    /* Calls of `read` that failed. */
    uint64_t read_errors;
    /* 1: it serves. */
    uint32_t serves;
    /* 0. */
    uint32_t reserved;
    /* From the reading of a fault to the placing of its page, in nanoseconds; once it was
     * stopped. */
    uint64_t latency_mean;
    uint64_t latency_p50;
    uint64_t latency_p99;
    uint64_t latency_max;
} postcopy_faults_progress;

/* Makes a handler that does nothing yet.
 * Errors: POSTCOPY_INVALID_ARGUMENT; POSTCOPY_BAD_HANDLE for a block; POSTCOPY_CONFIGURATION for
 * memory or regions that cannot be served, or a file that is too short; POSTCOPY_REFUSED where the
 * host refuses userfaultfd; POSTCOPY_SYSTEM. */
postcopy_code postcopy_faults_create(
    const postcopy_faults_options *options, postcopy_faults **faults, postcopy_error *error);

/* From here on whoever touches a missing page waits until it is served.
 * Errors: POSTCOPY_WRONG_STATE the second time; POSTCOPY_CONFIGURATION where another handler or a
 * migration has the memory. */
postcopy_code postcopy_faults_start(postcopy_faults *faults, postcopy_error *error);

/* Places all that is missing, in the background. */
postcopy_code postcopy_faults_fill(postcopy_faults *faults, postcopy_error *error);

/* Places the pages of a trace in the background, in its order, ahead of what postcopy_faults_fill
 * does.
 * Errors: POSTCOPY_CONFIGURATION for a file that holds no trace of this memory. */
postcopy_code postcopy_faults_prefetch(
    postcopy_faults *faults, const char *trace_file, postcopy_error *error);

/* Waits until the background has done what it was asked for, at most `timeout` nanoseconds.
 * Blocking.
 * Answers POSTCOPY_OK when no page is missing.
 * Errors: POSTCOPY_TIMED_OUT when some are. */
postcopy_code postcopy_faults_wait_filled(
    postcopy_faults *faults, uint64_t timeout, postcopy_error *error);

/* Waits until the handler has ended, by itself or by postcopy_faults_stop. Blocking.
 * Errors: POSTCOPY_TIMED_OUT. */
postcopy_code postcopy_faults_wait_ended(
    postcopy_faults *faults, uint64_t timeout, postcopy_error *error);

/* Where it stands; `progress->size` is set by the caller. */
postcopy_code postcopy_faults_get_progress(
    const postcopy_faults *faults, postcopy_faults_progress *progress, postcopy_error *error);

/* Ends the service: whoever waits for a page goes on, as `flags` say. Blocking: until calls of
 * `read` under way have returned. A second call is none.
 * Errors: POSTCOPY_NOT_COMPLETED when it had ended by itself before, with the reason;
 * POSTCOPY_WRONG_STATE in a callback. */
postcopy_code postcopy_faults_stop(postcopy_faults *faults, postcopy_error *error);

/* Writes the order in which pages were first needed to a file, for postcopy_faults_prefetch.
 * Errors: POSTCOPY_WRONG_STATE before postcopy_faults_stop; POSTCOPY_SYSTEM. */
postcopy_code postcopy_faults_save_trace(
    const postcopy_faults *faults, const char *trace_file, postcopy_error *error);

/* NULL is nothing to do, and POSTCOPY_OK.
 * Errors: POSTCOPY_WRONG_STATE from postcopy_faults_start to postcopy_faults_stop. */
postcopy_code postcopy_faults_free(postcopy_faults *faults, postcopy_error *error);

#ifdef __cplusplus
}
#endif
#endif
