#include "pc_ring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

struct pc_ring {
    struct io_uring ring;
};

int pc_ring_create(unsigned entries, struct pc_ring **ring)
{
    struct pc_ring *created = malloc(sizeof *created);
    if (!created)
        return -ENOMEM;
    int status = io_uring_queue_init(entries, &created->ring, 0);
    if (status < 0) {
        free(created);
        return status;
    }
    *ring = created;
    return 0;
}

void pc_ring_destroy(struct pc_ring *ring)
{
    io_uring_queue_exit(&ring->ring);
    free(ring);
}

int pc_ring_read(struct pc_ring *ring, int descriptor, void *buffer, uint32_t length, uint64_t slot)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (!entry)
        return -EBUSY;
    /* Offset -1: the file's own position, which is what descriptors without one accept. */
    io_uring_prep_read(entry, descriptor, buffer, length, (uint64_t)-1);
    io_uring_sqe_set_data64(entry, slot);
    return 0;
}

int pc_ring_receive(struct pc_ring *ring, int socket, void *buffer, size_t length, uint64_t slot)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (!entry)
        return -EBUSY;
    io_uring_prep_recv(entry, socket, buffer, length, 0);
    io_uring_sqe_set_data64(entry, slot);
    return 0;
}

int pc_ring_send(struct pc_ring *ring, int socket, const void *buffer, size_t length, uint64_t slot)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (!entry)
        return -EBUSY;
    io_uring_prep_send(entry, socket, buffer, length, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(entry, slot);
    return 0;
}

int pc_ring_poll(struct pc_ring *ring, int descriptor, uint32_t events, uint64_t slot)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (!entry)
        return -EBUSY;
    io_uring_prep_poll_add(entry, descriptor, events);
    io_uring_sqe_set_data64(entry, slot);
    return 0;
}

int pc_ring_cancel(struct pc_ring *ring, uint64_t target, uint64_t slot)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring->ring);
    if (!entry)
        return -EBUSY;
    io_uring_prep_cancel64(entry, target, 0);
    io_uring_sqe_set_data64(entry, slot);
    return 0;
}

int pc_ring_submit(struct pc_ring *ring, unsigned wait_count, uint64_t timeout_ns)
{
    /* One call that submits and waits would answer the number submitted when time runs out or a
     * signal comes, and hide how the wait ended. */
    int submitted = io_uring_submit(&ring->ring);
    if (submitted < 0 || wait_count == 0)
        return submitted;
    struct __kernel_timespec limit = {
        .tv_sec = (long long)(timeout_ns / 1000000000u),
        .tv_nsec = (long long)(timeout_ns % 1000000000u),
    };
    struct io_uring_cqe *first;
    int status;
    do
        status = io_uring_wait_cqes(&ring->ring, &first, wait_count, timeout_ns ? &limit : NULL,
                                    NULL);
    while (status == -EINTR);
    return status < 0 ? status : submitted;
}

int pc_ring_reap(struct pc_ring *ring, struct pc_completion *completions, unsigned capacity)
{
    unsigned head, count = 0;
    struct io_uring_cqe *entry;
    io_uring_for_each_cqe(&ring->ring, head, entry) {
        if (count == capacity)
            break;
        completions[count++] = (struct pc_completion){entry->user_data, entry->res, entry->flags};
    }
    io_uring_cq_advance(&ring->ring, count);
    return (int)count;
}
