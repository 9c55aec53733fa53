#include "pc_probe.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A filter answers before the kernel looks at the arguments. */
static void attempt(enum pc_probe_call call)
{
    switch (call) {
    case PC_PROBE_USERFAULTFD:
        syscall(SYS_userfaultfd, -1);
        break;
    case PC_PROBE_RING:
        syscall(SYS_io_uring_setup, 0, 0);
        break;
    case PC_PROBE_EVENTS:
        syscall(SYS_perf_event_open, 0, 0, -1, -1, 0);
        break;
    }
}

int pc_probe_is_fatal(enum pc_probe_call call)
{
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSYS, SIG_DFL);
        attempt(call);
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFSIGNALED(status);
}

int pc_probe_lock(void)
{
    long page = sysconf(_SC_PAGESIZE);
    void *memory = mmap(0, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    int answer = mlock(memory, page) == 0 ? 0 : -errno;
    munmap(memory, page);
    return answer;
}

int pc_probe_kvm_version(int kvm)
{
    int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    return version < 0 ? -errno : version;
}
