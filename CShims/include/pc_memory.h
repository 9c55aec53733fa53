/* Guest memory: memfds, mappings and what madvise says about them. */
#ifndef POSTCOPY_PC_MEMORY_H
#define POSTCOPY_PC_MEMORY_H

#include <stdint.h>

enum pc_advice {
    PC_ADVICE_DROP,          /* MADV_DONTNEED: anonymous pages fault again */
    PC_ADVICE_REMOVE,        /* MADV_REMOVE: also out of the backing file */
    PC_ADVICE_HUGE_PAGES,    /* MADV_HUGEPAGE */
    PC_ADVICE_NO_HUGE_PAGES, /* MADV_NOHUGEPAGE */
    PC_ADVICE_COLLAPSE,      /* MADV_COLLAPSE (Linux 6.1): one huge page for a range, at once */
    PC_ADVICE_DONT_DUMP,     /* MADV_DONTDUMP */
};

/* Creates a memfd of `length` bytes; at most 249 bytes of `name` are kept. Returns a close-on-exec descriptor, or -errno. */
int pc_memfd_create(const char *name, uint64_t length);

/* Maps private anonymous memory, or `memfd` shared when that is not -1, at a multiple of `alignment`:
 * a power of two, no less than a page. No swap is reserved. Returns the address, or -errno. */
int64_t pc_map(int memfd, uint64_t length, uint64_t alignment);

/* Maps private huge pages of 2^huge_shift bytes, reserved at once. Returns as pc_map. */
int64_t pc_map_huge(uint64_t length, int huge_shift);
int pc_unmap(uint64_t address, uint64_t length);

/* Returns 0, or -errno. */
int pc_advise(uint64_t address, uint64_t length, enum pc_advice advice);

/* Whether `length` bytes, a multiple of 256 aligned to 64, are all zero. Asks for the page behind what it
 * reads: pages are looked at in order, and the processor's own prefetch stops at a page's end.
 * Returns 1 or 0. */
int pc_is_zero(const void *start, uint64_t length);

struct pc_range {
    uint64_t start;
    uint64_t length;
};

/* Gives the same advice for up to 1,024 ranges of this process in one call (Linux 6.13). Stops at the
 * first that is refused. Returns the bytes of those before it, or -errno when that is the first. */
int64_t pc_advise_ranges(const struct pc_range *ranges, uint64_t count, enum pc_advice advice);

/* Allocates the range and keeps it in memory. Returns 0, or -errno. */
int pc_lock(uint64_t address, uint64_t length);

/* Returns 0, or -errno. */
int pc_unlock(uint64_t address, uint64_t length);

/* Returns 1 when the file that is mapped at `address` holds this page, 0 when not, or -errno. */
int pc_is_cached(uint64_t address);

#endif
