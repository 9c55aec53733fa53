#include "pc_memory.h"

#include <errno.h>
#include <linux/mman.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* include/uapi/asm-generic/mman-common.h of Linux 6.1 */
#endif

int pc_memfd_create(const char *name, uint64_t length)
{
    char kept[250] = {0}; /* NAME_MAX without the kernel's "memfd:" */
    strncpy(kept, name, sizeof kept - 1);
    int memfd = memfd_create(kept, MFD_CLOEXEC);
    if (memfd < 0)
        return -errno;
    if (ftruncate(memfd, (off_t)length) != 0) {
        int error = errno;
        close(memfd);
        return -error;
    }
    return memfd;
}

static int64_t mapped(void *address)
{
    return address == MAP_FAILED ? -errno : (int64_t)(uintptr_t)address;
}

int64_t pc_map(int memfd, uint64_t length, uint64_t alignment)
{
    int flags = MAP_NORESERVE | (memfd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    /* Room for any start; what is left over of it goes back at once. */
    int64_t room = mapped(mmap(
        NULL, length + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (room < 0)
        return room;
    uint64_t start = ((uint64_t)room + alignment - 1) & ~(alignment - 1);
    uint64_t head = start - (uint64_t)room;
    int64_t address = mapped(mmap(
        (void *)(uintptr_t)start, length, PROT_READ | PROT_WRITE, flags | MAP_FIXED, memfd, 0));
    if (address < 0) {
        pc_unmap((uint64_t)room, length + alignment);
        return address;
    }
    if (head > 0)
        pc_unmap((uint64_t)room, head);
    pc_unmap(start + length, alignment - head);
    return address;
}

int64_t pc_map_huge(uint64_t length, int huge_shift)
{
    /* Without MAP_NORESERVE: a fault that finds no free huge page would be a SIGBUS in the guest. */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | huge_shift << MAP_HUGE_SHIFT;
    return mapped(mmap(NULL, length, PROT_READ | PROT_WRITE, flags, -1, 0));
}

int pc_unmap(uint64_t address, uint64_t length)
{
    return munmap((void *)(uintptr_t)address, length) == 0 ? 0 : -errno;
}

static const int advices[] = {
    [PC_ADVICE_DROP] = MADV_DONTNEED,
    [PC_ADVICE_REMOVE] = MADV_REMOVE,
    [PC_ADVICE_HUGE_PAGES] = MADV_HUGEPAGE,
    [PC_ADVICE_NO_HUGE_PAGES] = MADV_NOHUGEPAGE,
    [PC_ADVICE_COLLAPSE] = MADV_COLLAPSE,
    [PC_ADVICE_DONT_DUMP] = MADV_DONTDUMP,
};

int pc_advise(uint64_t address, uint64_t length, enum pc_advice advice)
{
    return madvise((void *)(uintptr_t)address, length, advices[advice]) == 0 ? 0 : -errno;
}

_Static_assert(sizeof(struct pc_range) == sizeof(struct iovec), "a range is handed on as an iovec");

int64_t pc_advise_ranges(const struct pc_range *ranges, uint64_t count, enum pc_advice advice)
{
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0)
        return -errno;
    int64_t done = syscall(SYS_process_madvise, self, ranges, count, advices[advice], 0);
    int error = errno;
    close(self);
    return done < 0 ? -error : done;
}

/* A line of the cache, in whatever vectors the processor is sure to have. */
typedef uint64_t line __attribute__((vector_size(64)));

int pc_is_zero(const void *start, uint64_t length)
{
    enum { lines = 4, page = 4096 };
    const line *next = start;
    for (uint64_t done = 0; done < length; done += sizeof(line) * lines, next += lines) {
        line sum = {0};
        for (int i = 0; i < lines; i++) {
            __builtin_prefetch((const void *)((uintptr_t)(next + i) + page));
            sum |= next[i];
        }
        if ((sum[0] | sum[1] | sum[2] | sum[3] | sum[4] | sum[5] | sum[6] | sum[7]) != 0)
            return 0;
    }
    return 1;
}

int pc_lock(uint64_t address, uint64_t length)
{
    return mlock((void *)(uintptr_t)address, length) == 0 ? 0 : -errno;
}

int pc_unlock(uint64_t address, uint64_t length)
{
    return munlock((void *)(uintptr_t)address, length) == 0 ? 0 : -errno;
}

int pc_is_cached(uint64_t address)
{
    unsigned char page = 0;
    return mincore((void *)(uintptr_t)address, 1, &page) == 0 ? page & 1 : -errno;
}
