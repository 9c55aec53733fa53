/* io_uring through liburing; the ring stays opaque. One thread owns a ring. */
#ifndef POSTCOPY_PC_RING_H
#define POSTCOPY_PC_RING_H

#include <stddef.h>
#include <stdint.h>

struct pc_ring;

struct pc_completion {
    uint64_t slot;  /* as given when the operation was queued */
    int32_t result; /* >= 0, or -errno */
    uint32_t flags;
};

/* Stores a ring of at least `entries` in `*ring`. Returns 0, or -errno. */
int pc_ring_create(unsigned entries, struct pc_ring **ring);
void pc_ring_destroy(struct pc_ring *ring);

/* Each queues one operation and returns 0, or -EBUSY when the submission queue is full. The buffer
 * belongs to the kernel until the completion with this `slot` was reaped. */
int pc_ring_read(struct pc_ring *ring, int descriptor, void *buffer, uint32_t length, uint64_t slot);
int pc_ring_receive(struct pc_ring *ring, int socket, void *buffer, size_t length, uint64_t slot);
int pc_ring_send(struct pc_ring *ring, int socket, const void *buffer, size_t length, uint64_t slot);
int pc_ring_poll(struct pc_ring *ring, int descriptor, uint32_t events, uint64_t slot);
int pc_ring_cancel(struct pc_ring *ring, uint64_t target, uint64_t slot);

/* Submits what is queued and waits for `wait_count` completions, at most `timeout_ns` (0: for good).
 * Returns the number submitted, -ETIME when time ran out, or -errno. */
int pc_ring_submit(struct pc_ring *ring, unsigned wait_count, uint64_t timeout_ns);

/* Takes up to `capacity` completions without waiting. Returns how many. */
int pc_ring_reap(struct pc_ring *ring, struct pc_completion *completions, unsigned capacity);

#endif
