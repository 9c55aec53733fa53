/* When a thread last ran into a page fault, by the kernel's own clock (perf_event_open(2)). */
#ifndef POSTCOPY_PC_PERF_H
#define POSTCOPY_PC_PERF_H

#include <stdint.h>

/* A page fault: of which thread, when (nanoseconds of CLOCK_MONOTONIC), and at which address. */
struct pc_perf_fault {
    int32_t thread;
    uint64_t time;
    uint64_t address;
};

/* Samples every page fault of a thread of this process from now on, those that it takes in the kernel
 * only when `with_kernel` is not 0. Returns the descriptor (close-on-exec), or -errno. */
int pc_perf_open_faults(int thread, int with_kernel);

/* Maps the samples of `descriptor`, so that the newest ones overwrite the oldest: one page that says
 * where they are and `data_length` bytes, a power of two of pages. The mapping outlives the descriptor.
 * Returns its address, to be unmapped as a whole (pc_unmap), or -errno. */
int64_t pc_perf_map(int descriptor, uint64_t page_length, uint64_t data_length);

/* Copies the newest sample of a mapping. Returns 1, or 0 when there is none: nothing was sampled yet, the
 * newest record is something else, or one was being written. */
int pc_perf_newest_fault(
    uint64_t mapping, uint64_t page_length, uint64_t data_length, struct pc_perf_fault *fault);

#endif
