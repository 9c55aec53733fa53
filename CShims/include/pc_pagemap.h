/* PAGEMAP_SCAN of /proc/self/pagemap (Linux 6.7): which pages are written, or huge, without a walk
 * over every entry in user space. Source: Documentation/admin-guide/mm/pagemap.rst. */
#ifndef POSTCOPY_PC_PAGEMAP_H
#define POSTCOPY_PC_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>

/* Categories of a page, as bits. */
enum pc_page_category {
    PC_PAGE_WRITTEN = 1 << 1, /* since it was last write-protected asynchronously */
    PC_PAGE_PRESENT = 1 << 3,
    PC_PAGE_ZERO = 1 << 5, /* the shared zero page */
    PC_PAGE_HUGE = 1 << 6, /* mapped by a huge entry: transparent or hugetlb */
};

/* Pages of one kind that follow each other, as addresses. */
struct pc_page_run {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

/* Opens this process's page map. Returns a descriptor, or -errno. */
int pc_pagemap_open(void);

/* Stores the runs of pages in [start, end) that have every category of `categories`, and in
 * `*walk_end` where to go on when `capacity` was too small. With `protect` each page found is
 * write-protected anew in the same step; the range must be registered with an asynchronous
 * userfaultfd. Returns how many runs, or -errno: ENOTTY where the kernel lacks the call. */
int pc_pagemap_scan(
    int pagemap, uint64_t start, uint64_t end, uint64_t categories, int protect,
    struct pc_page_run *runs, size_t capacity, uint64_t *walk_end);

#endif
