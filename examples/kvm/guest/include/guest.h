/* What the guest and its machine agree on, and the guest as the assembler made it. */
#pragma once

/* Guest addresses: where the image lies and begins to run, its page table, the pages that are worked
 * on, and the high block, whose pages all are. */
#define GUEST_IMAGE_AT 0x1000
#define GUEST_PAGE_TABLE_AT 0x2000
#define GUEST_WORK_AT 0x10000
#define GUEST_HIGH_BLOCK_AT 0x80000000

/* What a round adds to each word: odd, so that no round is like another. */
#define GUEST_GROWTH 0x9e3779b97f4a7c15

/* Ports: text, byte by byte, and addresses of words that are wrong. */
#define GUEST_CONSOLE 0xe9
#define GUEST_COMPLAINT 0x10

#ifndef __ASSEMBLER__
extern const char guest_image_start, guest_image_end;
/* Of no length where the compiler makes no x86_64 code. */
static inline const void *guest_image(void) { return &guest_image_start; }
static inline long guest_image_length(void) { return &guest_image_end - &guest_image_start; }
#endif
