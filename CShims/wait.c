#include "pc_wait.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

int pc_wait_create(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    return set < 0 ? -errno : set;
}

int pc_wait_add(int set, int descriptor, uint32_t tag, int stays)
{
    struct epoll_event event = {.events = EPOLLIN | (stays ? 0 : EPOLLET)};
    event.data.u32 = tag;
    return epoll_ctl(set, EPOLL_CTL_ADD, descriptor, &event) == 0 ? 0 : -errno;
}

int pc_wait_next(int set, int timeout_ms, uint32_t *tag)
{
    struct epoll_event event;
    int ready = epoll_wait(set, &event, 1, timeout_ms);
    if (ready < 0)
        return -errno;
    if (ready > 0)
        *tag = event.data.u32;
    return ready;
}

int pc_timer_create(void)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return timer < 0 ? -errno : timer;
}

int pc_timer_set(int timer, uint64_t nanoseconds)
{
    struct itimerspec setting = {
        .it_value.tv_sec = (time_t)(nanoseconds / 1000000000u),
        .it_value.tv_nsec = (long)(nanoseconds % 1000000000u),
    };
    return timerfd_settime(timer, 0, &setting, NULL) == 0 ? 0 : -errno;
}
