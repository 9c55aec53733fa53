#include "pc_checksum.h"

#include <zlib.h>

uint32_t pc_crc32(const void *start, uint64_t length)
{
    return (uint32_t)crc32_z(0, start, length);
}
