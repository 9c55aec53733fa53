/* Checksums of zlib. */
#ifndef POSTCOPY_PC_CHECKSUM_H
#define POSTCOPY_PC_CHECKSUM_H

#include <stdint.h>

/* Returns the CRC-32 (ISO 3309) of `length` bytes, as gzip has it. */
uint32_t pc_crc32(const void *start, uint64_t length);

#endif
