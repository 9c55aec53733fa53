/* epoll and timers: several threads that wait for the same descriptors. */
#ifndef POSTCOPY_PC_WAIT_H
#define POSTCOPY_PC_WAIT_H

#include <stdint.h>

/* Creates an empty set (close-on-exec). Returns its descriptor, or -errno. */
int pc_wait_create(void);

/* Adds a descriptor whose readiness to read is told as `tag`: each time that something comes, to one
 * waiter; with `stays`, to all for as long as it is ready. Returns 0, or -errno. */
int pc_wait_add(int set, int descriptor, uint32_t tag, int stays);

/* Waits at most `timeout_ms` (-1: for good) for one descriptor of the set and stores its tag.
 * Returns 1, 0 when time ran out, or -errno. */
int pc_wait_next(int set, int timeout_ms, uint32_t *tag);

/* Creates a timer that is readable once it has run out (CLOCK_MONOTONIC, close-on-exec).
 * Returns its descriptor, or -errno. */
int pc_timer_create(void);

/* Lets a timer run out after `nanoseconds`, at least 1; whatever it was set to before is forgotten.
 * Returns 0, or -errno. */
int pc_timer_set(int timer, uint64_t nanoseconds);

#endif
