#include "pc_thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The first published layout of struct sched_attr (include/uapi/linux/sched/types.h). */
struct pc_sched_attr {
    uint32_t size;
    uint32_t sched_policy;
    uint64_t sched_flags;
    int32_t sched_nice;
    uint32_t sched_priority;
    uint64_t sched_runtime;
    uint64_t sched_deadline;
    uint64_t sched_period;
};
_Static_assert(sizeof(struct pc_sched_attr) == 48, "SCHED_ATTR_SIZE_VER0");

int pc_thread_id(void) { return (int)syscall(SYS_gettid); }

int pc_thread_signal(int thread, int signal)
{
    return syscall(SYS_tgkill, getpid(), thread, signal) == 0 ? 0 : -errno;
}

int pc_thread_set_name(const char *name)
{
    char kept[16] = {0};
    strncpy(kept, name, sizeof kept - 1);
    return -pthread_setname_np(pthread_self(), kept);
}

int pc_thread_block_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    return -pthread_sigmask(SIG_BLOCK, &all, NULL);
}

int pc_thread_set_slice(uint64_t nanoseconds)
{
    struct pc_sched_attr attributes = {.size = sizeof attributes};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0)
        return -errno;
    attributes.size = sizeof attributes;
    attributes.sched_runtime = nanoseconds;
    return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0 ? 0 : -errno;
}

int pc_poll(struct pollfd *entries, unsigned count, uint64_t timeout_ns)
{
    struct timespec limit = {
        .tv_sec = (time_t)(timeout_ns / 1000000000u),
        .tv_nsec = (long)(timeout_ns % 1000000000u),
    };
    int ready = ppoll(entries, count, timeout_ns == UINT64_MAX ? NULL : &limit, NULL);
    return ready < 0 ? -errno : ready;
}

int pc_eventfd(void)
{
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

int pc_eventfd_raise(int descriptor)
{
    /* EAGAIN: the counter is at its top, so the flag is raised already. */
    if (eventfd_write(descriptor, 1) == 0 || errno == EAGAIN)
        return 0;
    return -errno;
}

int pc_eventfd_clear(int descriptor)
{
    eventfd_t count;
    if (eventfd_read(descriptor, &count) == 0)
        return 1;
    return errno == EAGAIN ? 0 : -errno;
}
