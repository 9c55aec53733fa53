#include "pc_pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

/* Debian 12 ships the headers of Linux 6.1. Layout and values: include/uapi/linux/fs.h of Linux 6.7. */
#ifndef PAGEMAP_SCAN
struct pm_scan_arg {
    __u64 size;
    __u64 flags;
    __u64 start;
    __u64 end;
    __u64 walk_end;
    __u64 vec;
    __u64 vec_len;
    __u64 max_pages;
    __u64 category_inverted;
    __u64 category_mask;
    __u64 category_anyof_mask;
    __u64 return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#endif

_Static_assert(sizeof(struct pm_scan_arg) == 96, "pm_scan_arg holds twelve 64-bit fields");
_Static_assert(sizeof(struct pc_page_run) == 24, "page_region holds three 64-bit fields");

int pc_pagemap_open(void)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return pagemap < 0 ? -errno : pagemap;
}

int pc_pagemap_scan(
    int pagemap, uint64_t start, uint64_t end, uint64_t categories, int protect,
    struct pc_page_run *runs, size_t capacity, uint64_t *walk_end)
{
    struct pm_scan_arg scan = {
        .size = sizeof scan,
        .flags = protect ? PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC : 0,
        .start = start,
        .end = end,
        .vec = (uintptr_t)runs,
        .vec_len = capacity,
        .category_mask = categories,
        .return_mask = categories,
    };
    int count = ioctl(pagemap, PAGEMAP_SCAN, &scan);
    if (count < 0)
        return -errno;
    *walk_end = scan.walk_end;
    return count;
}
