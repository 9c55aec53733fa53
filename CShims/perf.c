#include "pc_perf.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What PERF_SAMPLE_TID, _TIME and _ADDR put into a record, in this order (perf_event_open(2)). */
struct sample {
    struct perf_event_header header;
    uint32_t process;
    uint32_t thread;
    uint64_t time;
    uint64_t address;
};
_Static_assert(sizeof(struct sample) == 32, "PERF_RECORD_SAMPLE");

int pc_perf_open_faults(int thread, int with_kernel)
{
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_SOFTWARE,
        .size = PERF_ATTR_SIZE_VER5, /* Linux 4.1; nothing of a later layout is set. */
        .config = PERF_COUNT_SW_PAGE_FAULTS,
        .sample_period = 1,
        .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR,
        .exclude_kernel = with_kernel == 0,
        .exclude_hv = 1,
        .use_clockid = 1,
        .clockid = CLOCK_MONOTONIC,
        .write_backward = 1,
        /* Nobody waits for samples: no wake-up is due before the whole buffer was written. */
        .watermark = 1,
        .wakeup_watermark = UINT32_MAX,
    };
    long answer = syscall(
        SYS_perf_event_open, &attributes, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
    return answer >= 0 ? (int)answer : -errno;
}

int64_t pc_perf_map(int descriptor, uint64_t page_length, uint64_t data_length)
{
    /* Not writable: the kernel overwrites what nobody says to have read. */
    void *address = mmap(
        NULL, page_length + data_length, PROT_READ, MAP_SHARED, descriptor, 0);
    return address == MAP_FAILED ? -errno : (int64_t)(uintptr_t)address;
}

int pc_perf_newest_fault(
    uint64_t mapping, uint64_t page_length, uint64_t data_length, struct pc_perf_fault *fault)
{
    const struct perf_event_mmap_page *page = (const void *)(uintptr_t)mapping;
    const unsigned char *data = (const unsigned char *)page + page_length;
    /* Acquire: what was written before the head was moved, downwards, to the newest record. */
    uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
    if (head == 0)
        return 0;
    struct sample sample;
    for (uint64_t done = 0; done < sizeof sample; done += sizeof(uint64_t))
        memcpy((unsigned char *)&sample + done, data + ((head + done) & (data_length - 1)), 8);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&page->data_head, __ATOMIC_RELAXED) != head
        || sample.header.type != PERF_RECORD_SAMPLE || sample.header.size != sizeof sample)
        return 0;
    fault->thread = (int32_t)sample.thread;
    fault->time = sample.time;
    fault->address = sample.address;
    return 1;
}
