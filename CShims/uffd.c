#include "pc_uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Debian 12 ships the headers of Linux 6.1. Values of later kernels: include/uapi/linux/userfaultfd.h
 * of Linux 6.8. */
#ifndef UFFDIO_MOVE
struct uffdio_move {
    __u64 dst;
    __u64 src;
    __u64 len;
    __u64 mode;
    __s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFDIO_POISON
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

_Static_assert(sizeof(struct uffd_msg) == 32, "uffd_msg is packed to 32 bytes");
_Static_assert(sizeof(struct uffdio_copy) == 40, "uffdio_copy holds five 64-bit fields");
_Static_assert(sizeof(struct uffdio_move) == 40, "uffdio_move holds five 64-bit fields");
_Static_assert(sizeof(struct uffdio_poison) == 32, "uffdio_poison holds four 64-bit fields");
_Static_assert(PC_UFFD_EVENT_PAGEFAULT == UFFD_EVENT_PAGEFAULT, "event number");
_Static_assert(PC_UFFD_EVENT_FORK == UFFD_EVENT_FORK, "event number");
_Static_assert(PC_UFFD_EVENT_REMAP == UFFD_EVENT_REMAP, "event number");
_Static_assert(PC_UFFD_EVENT_REMOVE == UFFD_EVENT_REMOVE, "event number");
_Static_assert(PC_UFFD_EVENT_UNMAP == UFFD_EVENT_UNMAP, "event number");
_Static_assert(
    PC_UFFD_FAULT_OTHER == (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR), "fault flags");
_Static_assert((__u64)PC_UFFD_FEATURE_THREAD_ID == UFFD_FEATURE_THREAD_ID, "feature bit");
_Static_assert((__u64)PC_UFFD_MODE_MINOR == UFFDIO_REGISTER_MODE_MINOR, "mode bit");

int pc_uffd_open_device(void)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0)
        return -errno;
    int uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    int result = uffd < 0 ? -errno : uffd;
    close(device);
    return result;
}

int pc_uffd_open_syscall(int user_mode_only)
{
    int flags = O_CLOEXEC | O_NONBLOCK | (user_mode_only ? UFFD_USER_MODE_ONLY : 0);
    long uffd = syscall(SYS_userfaultfd, flags);
    return uffd < 0 ? -errno : (int)uffd;
}

int pc_uffd_handshake(int uffd, uint64_t features, uint64_t *supported)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    if (ioctl(uffd, UFFDIO_API, &api) != 0)
        return -errno;
    *supported = api.features;
    return 0;
}

int pc_uffd_register(int uffd, uint64_t start, uint64_t length, uint64_t modes, uint64_t *ioctls)
{
    struct uffdio_register request = {.range = {.start = start, .len = length}, .mode = modes};
    if (ioctl(uffd, UFFDIO_REGISTER, &request) != 0)
        return -errno;
    *ioctls = request.ioctls;
    return 0;
}

int pc_uffd_unregister(int uffd, uint64_t start, uint64_t length)
{
    struct uffdio_range range = {.start = start, .len = length};
    return ioctl(uffd, UFFDIO_UNREGISTER, &range) == 0 ? 0 : -errno;
}

/* The kernel answers EAGAIN with a positive count when it placed only a part. */
static int64_t placed(int status, int64_t count)
{
    if (status == 0 || (errno == EAGAIN && count > 0))
        return count;
    return -errno;
}

int64_t pc_uffd_copy(int uffd, uint64_t target, const void *source, uint64_t length)
{
    struct uffdio_copy copy = {.dst = target, .src = (uintptr_t)source, .len = length};
    return placed(ioctl(uffd, UFFDIO_COPY, &copy), copy.copy);
}

int64_t pc_uffd_zeropage(int uffd, uint64_t target, uint64_t length)
{
    struct uffdio_zeropage zero = {.range = {.start = target, .len = length}};
    return placed(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), zero.zeropage);
}

int64_t pc_uffd_continue(int uffd, uint64_t target, uint64_t length)
{
    struct uffdio_continue request = {.range = {.start = target, .len = length}};
    return placed(ioctl(uffd, UFFDIO_CONTINUE, &request), request.mapped);
}

int64_t pc_uffd_move(int uffd, uint64_t target, uint64_t source, uint64_t length)
{
    struct uffdio_move move = {.dst = target, .src = source, .len = length};
    return placed(ioctl(uffd, UFFDIO_MOVE, &move), move.move);
}

int64_t pc_uffd_poison(int uffd, uint64_t target, uint64_t length)
{
    struct uffdio_poison request = {.range = {.start = target, .len = length}};
    return placed(ioctl(uffd, UFFDIO_POISON, &request), request.updated);
}

int pc_uffd_wake(int uffd, uint64_t start, uint64_t length)
{
    struct uffdio_range range = {.start = start, .len = length};
    return ioctl(uffd, UFFDIO_WAKE, &range) == 0 ? 0 : -errno;
}

int pc_uffd_writeprotect(int uffd, uint64_t start, uint64_t length, int protect)
{
    struct uffdio_writeprotect request = {
        .range = {.start = start, .len = length},
        .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };
    return ioctl(uffd, UFFDIO_WRITEPROTECT, &request) == 0 ? 0 : -errno;
}

static struct pc_uffd_event event_of(const struct uffd_msg *message)
{
    struct pc_uffd_event event = {.kind = message->event, .child = -1};
    switch (message->event) {
    case UFFD_EVENT_PAGEFAULT:
        event.address = message->arg.pagefault.address;
        event.thread = message->arg.pagefault.feat.ptid;
        event.flags = (uint32_t)message->arg.pagefault.flags;
        break;
    case UFFD_EVENT_FORK:
        event.child = (int32_t)message->arg.fork.ufd;
        break;
    case UFFD_EVENT_REMAP:
        event.address = message->arg.remap.from;
        break;
    default: /* REMOVE and UNMAP */
        event.address = message->arg.remove.start;
        event.end = message->arg.remove.end;
    }
    return event;
}

/* Reads without waiting, whatever the descriptor's flags say: somebody else who holds it may change
 * them. Linux 6.10 reads so; before it the flag is set anew, which leaves a moment to change it. */
static ssize_t read_at_once(int uffd, void *buffer, size_t length)
{
    static atomic_int is_refused;
    struct iovec part = {.iov_base = buffer, .iov_len = length};
    if (!atomic_load_explicit(&is_refused, memory_order_relaxed)) {
        ssize_t bytes = preadv2(uffd, &part, 1, -1, RWF_NOWAIT);
        if (bytes >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM))
            return bytes;
        atomic_store_explicit(&is_refused, 1, memory_order_relaxed);
    }
    int flags = fcntl(uffd, F_GETFL);
    if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(uffd, F_SETFL, flags | O_NONBLOCK) != 0))
        return -1;
    return read(uffd, buffer, length);
}

int pc_uffd_read(int uffd, struct pc_uffd_event *events, size_t capacity)
{
    struct uffd_msg messages[PC_UFFD_EVENTS_MAX];
    if (capacity > PC_UFFD_EVENTS_MAX)
        capacity = PC_UFFD_EVENTS_MAX;
    ssize_t bytes = read_at_once(uffd, messages, capacity * sizeof messages[0]);
    if (bytes < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    int count = (int)(bytes / (ssize_t)sizeof messages[0]);
    for (int i = 0; i < count; i++)
        events[i] = event_of(&messages[i]);
    return count;
}

int pc_uffd_receive(int uffd)
{
    char path[32], name[64] = {0};
    snprintf(path, sizeof path, "/proc/self/fd/%d", uffd);
    if (readlink(path, name, sizeof name - 1) < 0)
        return -errno;
    if (strcmp(name, "anon_inode:[userfaultfd]") != 0)
        return -ENOTTY;
    int flags = fcntl(uffd, F_GETFL);
    if (flags < 0 || fcntl(uffd, F_SETFL, flags | O_NONBLOCK) != 0)
        return -errno;
    struct pollfd entry = {.fd = uffd, .events = POLLIN};
    if (poll(&entry, 1, 0) < 0)
        return -errno;
    return (entry.revents & POLLERR) == 0;
}
