/* Threads and the descriptors that wake them. */
#ifndef POSTCOPY_PC_THREAD_H
#define POSTCOPY_PC_THREAD_H

#include <poll.h>
#include <stdint.h>

/* Returns the kernel's id of the calling thread. */
int pc_thread_id(void);

/* Sends `signal` to a thread of this process. Returns 0, or -errno: ESRCH when it has ended. */
int pc_thread_signal(int thread, int signal);

/* Names the calling thread; at most 15 bytes are kept. Returns 0, or -errno. */
int pc_thread_set_name(const char *name);

/* Leaves signals to other threads: a handler that touches guest memory must not run on a thread that
 * serves its faults. Returns 0, or -errno. */
int pc_thread_block_signals(void);

/* Asks the scheduler for time slices of `nanoseconds` (Linux 6.12; 100 us to 100 ms): a thread with
 * short slices runs sooner after it is woken. Returns 0, or -errno. */
int pc_thread_set_slice(uint64_t nanoseconds);

/* Waits for any of `entries`, at most `timeout_ns` (UINT64_MAX: for good).
 * Returns how many are ready, 0 when time ran out, or -errno. */
int pc_poll(struct pollfd *entries, unsigned count, uint64_t timeout_ns);

/* Creates an eventfd (non-blocking, close-on-exec). Returns it, or -errno. */
int pc_eventfd(void);

/* Adds one. Returns 0, or -errno. */
int pc_eventfd_raise(int descriptor);

/* Takes the count away. Returns 1 when it was raised, 0 when not, or -errno. */
int pc_eventfd_clear(int descriptor);

#endif
