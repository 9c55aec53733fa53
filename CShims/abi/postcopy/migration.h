/* The two sides of a migration.
 *
 * Each is created, run or started once, steered from any thread meanwhile, and freed once it has
 * ended. An address is "tcp:HOST:PORT", "tcp:[IPV6]:PORT" or "unix:PATH". */
#ifndef POSTCOPY_MIGRATION_H
#define POSTCOPY_MIGRATION_H

#include "options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Hands a running guest over. Before the guest has moved every failure leaves it running here. */
typedef struct postcopy_source postcopy_source;

/* `options` may be NULL.
 * Errors: POSTCOPY_INVALID_ARGUMENT; POSTCOPY_BAD_HANDLE for a block; POSTCOPY_CONFIGURATION;
 * POSTCOPY_REFUSED where the guest's writes cannot be tracked; POSTCOPY_CHANNEL for one of
 * `recovery_addresses`; POSTCOPY_SYSTEM. */
postcopy_code postcopy_source_create(
    const postcopy_guest *guest, const postcopy_options *options, postcopy_source **source,
    postcopy_error *error);

/* Connects, hands the guest over and serves its pages. Blocking: until the migration has ended.
 * Answers POSTCOPY_OK when it completed.
 * Errors: POSTCOPY_NOT_COMPLETED and POSTCOPY_CALLBACK, with the report's problem as message;
 * POSTCOPY_CHANNEL for an address that is none; POSTCOPY_WRONG_STATE the second time, and in a
 * callback. */
postcopy_code postcopy_source_run(
    postcopy_source *source, const char *address, postcopy_error *error);

/* The same on a thread of the library's own.
 * Errors: POSTCOPY_CHANNEL for an address that is none; POSTCOPY_WRONG_STATE the second time;
 * POSTCOPY_SYSTEM when there is no thread to be had. */
postcopy_code postcopy_source_start(
    postcopy_source *source, const char *address, postcopy_error *error);

/* Waits for the end, at most `timeout` nanoseconds, UINT64_MAX for as long as it takes. Blocking.
 * Answers as postcopy_source_run does, any number of times.
 * Errors: POSTCOPY_TIMED_OUT; POSTCOPY_WRONG_STATE before it was started, and in a callback. */
postcopy_code postcopy_source_wait(
    postcopy_source *source, uint64_t timeout, postcopy_error *error);

/* Lets the guest move as soon as the destination is ready: without precopy the only thing that
 * does. It may be called before the start. */
postcopy_code postcopy_source_start_postcopy(postcopy_source *source, postcopy_error *error);

/* Ends a migration whose guest has not moved yet; later it has no effect. */
postcopy_code postcopy_source_cancel(postcopy_source *source, postcopy_error *error);

/* Ends the link once the guest has moved; nothing is tried until postcopy_source_recover.
 * Errors: POSTCOPY_WRONG_STATE when the guest has not moved, or it is over. */
postcopy_code postcopy_source_pause(postcopy_source *source, postcopy_error *error);

/* Tries a paused migration's link again, now: at `addresses`, or where the destination was when
 * there are none.
 * Errors: POSTCOPY_WRONG_STATE unless it is paused; POSTCOPY_CHANNEL for what is no address. */
postcopy_code postcopy_source_recover(
    postcopy_source *source, const char *const *addresses, size_t count, postcopy_error *error);

/* Gives a paused migration up: it ends, and the guest is not started here.
 * Errors: POSTCOPY_WRONG_STATE unless it is paused. */
postcopy_code postcopy_source_abandon(postcopy_source *source, postcopy_error *error);

/* With POSTCOPY_TRACK_REPORTS: tells that pages of 4096 bytes were written. After the write, and
 * before `pause` returns.
 * Errors: POSTCOPY_WRONG_STATE with another tracking; POSTCOPY_INVALID_ARGUMENT outside the
 * block. */
postcopy_code postcopy_source_report_write(
    postcopy_source *source, uint32_t block, uint64_t first_page, uint64_t page_count,
    postcopy_error *error);

/* Says that nobody needs the content of pages of 4096 bytes any more, so that a precopy leaves them
 * out. The guest must not write them before this returns.
 * Errors: POSTCOPY_INVALID_ARGUMENT outside the block; POSTCOPY_SYSTEM, and nothing was left
 * out. */
postcopy_code postcopy_source_hint_free(
    postcopy_source *source, uint32_t block, uint64_t first_page, uint64_t page_count,
    postcopy_error *error);

/* Changes the limits, before or while it runs, all at once. A bandwidth holds from the next write
 * on, a downtime limit from the end of the round on.
 * Errors: POSTCOPY_CONFIGURATION for limits that cannot be; then nothing has changed. */
postcopy_code postcopy_source_set_limits(
    postcopy_source *source, const postcopy_limits *limits, postcopy_error *error);

/* The limits in force; `limits->size` is set by the caller. */
postcopy_code postcopy_source_get_limits(
    const postcopy_source *source, postcopy_limits *limits, postcopy_error *error);

/* Where it stands; `progress->size` is set by the caller. */
postcopy_code postcopy_source_progress(
    const postcopy_source *source, postcopy_progress *progress, postcopy_error *error);

/* How it ended; `report->size` is set by the caller.
 * Errors: POSTCOPY_WRONG_STATE before the end. */
postcopy_code postcopy_source_get_report(
    const postcopy_source *source, postcopy_source_report *report, postcopy_error *error);

/* NULL is nothing to do, and POSTCOPY_OK. Frees no memory of the guest.
 * Errors: POSTCOPY_WRONG_STATE while it runs: cancel or abandon it, and wait; and while a `pause`
 * that was not waited for has not returned. */
postcopy_code postcopy_source_free(postcopy_source *source, postcopy_error *error);

/* Takes a guest over and pulls its memory. */
typedef struct postcopy_destination postcopy_destination;

/* `options` may be NULL. The memory of `guest` is emptied when a source comes.
 * Errors: as postcopy_source_create; POSTCOPY_REFUSED where the host refuses userfaultfd. */
postcopy_code postcopy_destination_create(
    const postcopy_guest *guest, const postcopy_options *options,
    postcopy_destination **destination, postcopy_error *error);

/* Listens at `address` from here on; port 0 lets the system choose.
 * Errors: POSTCOPY_CHANNEL; POSTCOPY_WRONG_STATE the second time, unless a start was refused since:
 * that has ended the listening. */
postcopy_code postcopy_destination_listen(
    postcopy_destination *destination, const char *address, postcopy_error *error);

/* Where it listens, with the port that the system chose; it belongs to `destination`. NULL before
 * postcopy_destination_listen, and for a bad handle. */
const char *postcopy_destination_address(const postcopy_destination *destination);

/* Waits for a source, takes the guest over and runs it. Blocking: until every page is placed, or
 * the migration has ended otherwise. Answers POSTCOPY_OK when it completed.
 * Errors: POSTCOPY_NOT_COMPLETED and POSTCOPY_CALLBACK, with the report's problem as message;
 * POSTCOPY_WRONG_STATE before postcopy_destination_listen, the second time, and in a callback. */
postcopy_code postcopy_destination_run(
    postcopy_destination *destination, postcopy_error *error);

/* The same on a thread of the library's own.
 * Errors: POSTCOPY_WRONG_STATE as above; POSTCOPY_SYSTEM when there is no thread to be had. */
postcopy_code postcopy_destination_start(
    postcopy_destination *destination, postcopy_error *error);

/* As postcopy_source_wait. Blocking. */
postcopy_code postcopy_destination_wait(
    postcopy_destination *destination, uint64_t timeout, postcopy_error *error);

/* Ends a wait for a source, a migration that has not moved the guest yet, or the healing of huge
 * pages. */
postcopy_code postcopy_destination_cancel(
    postcopy_destination *destination, postcopy_error *error);

/* Ends the link once the guest has moved; no source is let in until postcopy_destination_recover.
 * Errors: POSTCOPY_WRONG_STATE when the guest has not moved, or it is over. */
postcopy_code postcopy_destination_pause(
    postcopy_destination *destination, postcopy_error *error);

/* Lets the source of a paused migration in again: at `address`, or where it came before when NULL.
 * Errors: POSTCOPY_WRONG_STATE unless it is paused; POSTCOPY_CHANNEL. */
postcopy_code postcopy_destination_recover(
    postcopy_destination *destination, const char *address, postcopy_error *error);

/* Gives a paused guest up: `memory_lost` is called, then threads that wait for a page get a memory
 * error.
 * Errors: POSTCOPY_WRONG_STATE unless it is paused. */
postcopy_code postcopy_destination_abandon(
    postcopy_destination *destination, postcopy_error *error);

/* Once the migration has ended paused: lets the guest's threads go on, reading zeros where pages
 * are missing, so that they can be ended.
 * Errors: POSTCOPY_WRONG_STATE before the end, and where no guest waits for pages. */
postcopy_code postcopy_destination_abandon_guest(
    postcopy_destination *destination, postcopy_error *error);

/* As of a source. */
postcopy_code postcopy_destination_progress(
    const postcopy_destination *destination, postcopy_progress *progress, postcopy_error *error);
postcopy_code postcopy_destination_get_report(
    const postcopy_destination *destination, postcopy_destination_report *report,
    postcopy_error *error);

/* NULL is nothing to do, and POSTCOPY_OK. Frees no memory of the guest. Threads that wait for
 * missing pages of a migration that ended paused go on waiting, until the process ends.
 * Errors: POSTCOPY_WRONG_STATE while it runs. */
postcopy_code postcopy_destination_free(
    postcopy_destination *destination, postcopy_error *error);

#ifdef __cplusplus
}
#endif
#endif
