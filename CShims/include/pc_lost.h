/* Pages that the hardware, or a userfaultfd in its stead, has lost: an access is a SIGBUS. */
#ifndef POSTCOPY_PC_LOST_H
#define POSTCOPY_PC_LOST_H

#include <stdint.h>

#define PC_LOST_RANGES_MAX 64

/* From now on a thread that touches a lost page of this range, whose pages have 2^page_shift bytes,
 * and that lets SIGBUS in, finds zeros there and goes on. The first call takes the handler of SIGBUS
 * over; what is about other memory goes to the handler that was there before. Returns a place to unwatch, or -errno: ENOSPC beyond
 * PC_LOST_RANGES_MAX ranges. */
int pc_lost_watch(uint64_t start, uint64_t length, int page_shift);

/* Ends that for a range. Returns 0. */
int pc_lost_unwatch(int place);

/* Returns how many lost pages the calling thread has touched. */
int pc_lost_touched(void);

#endif
