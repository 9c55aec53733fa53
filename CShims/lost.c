#include "pc_lost.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

/* A signal handler has no argument but the signal: what it needs to know is global. */
struct pc_lost_range {
    _Atomic uint64_t start;
    _Atomic uint64_t end; /* 0: the place is free */
    _Atomic int page_shift;
};
static struct pc_lost_range ranges[PC_LOST_RANGES_MAX];
static pthread_mutex_t places = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed;
static struct sigaction previous;
static _Thread_local volatile int touched;

/* Returns the page's shift, or -1 where nobody watches. */
static int watched(uint64_t address)
{
    for (int i = 0; i < PC_LOST_RANGES_MAX; i++)
        if (address < atomic_load(&ranges[i].end) && address >= atomic_load(&ranges[i].start))
            return atomic_load(&ranges[i].page_shift);
    return -1;
}

/* mmap is a bare system call in glibc, and so may be called here. */
static int replace(uint64_t address)
{
    int shift = watched(address);
    if (shift < 0)
        return 0;
    uint64_t length = 1ull << shift;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    void *start = (void *)(uintptr_t)(address & ~(length - 1));
    return mmap(start, length, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED;
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        signal(number, SIG_DFL);
        raise(number);
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int error = errno;
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    /* A kernel without CONFIG_MEMORY_FAILURE has no other word for it than BUS_ADRERR. */
    int is_lost = info->si_code == BUS_MCEERR_AR || info->si_code == BUS_ADRERR;
    if (is_lost && replace(address))
        touched++;
    else
        pass_on(number, info, context);
    errno = error;
}

static void install(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    action.sa_sigaction = on_bus_error;
    sigemptyset(&action.sa_mask);
    /* From the second call on the handler may run, and reads what the first one has filled in. */
    int is_done = sigaction(SIGBUS, NULL, &previous) == 0 && sigaction(SIGBUS, &action, NULL) == 0;
    installed = is_done ? 0 : -errno;
}

int pc_lost_watch(uint64_t start, uint64_t length, int page_shift)
{
    pthread_once(&once, install);
    if (installed < 0)
        return installed;
    int place = 0;
    pthread_mutex_lock(&places);
    while (place < PC_LOST_RANGES_MAX && atomic_load(&ranges[place].end) != 0)
        place++;
    if (place < PC_LOST_RANGES_MAX) {
        atomic_store(&ranges[place].start, start);
        atomic_store(&ranges[place].page_shift, page_shift);
        atomic_store(&ranges[place].end, start + length);
    }
    pthread_mutex_unlock(&places);
    return place < PC_LOST_RANGES_MAX ? place : -ENOSPC;
}

int pc_lost_unwatch(int place)
{
    atomic_store(&ranges[place].end, 0);
    return 0;
}

int pc_lost_touched(void) { return touched; }
