/* Files that guest memory is mapped from, beside other processes. */
#ifndef POSTCOPY_PC_FILE_H
#define POSTCOPY_PC_FILE_H

#include <stdint.h>

/* What a mapping needs to know of a file. */
struct pc_file {
    uint64_t length;
    uint64_t huge_page; /* bytes of each of its pages on hugetlbfs, else 0 */
    int is_regular;
    int is_memory; /* on tmpfs or hugetlbfs */
};

/* Describes an open file. Returns 0, or -errno. */
int pc_file_describe(int file, struct pc_file *found);

/* Maps the first `length` bytes of a file shared; of huge pages, all are reserved at once.
 * Returns the address, or -errno. */
int64_t pc_file_map(int file, uint64_t length);

/* Locks a whole file, for one or for many, or turns one into the other. Returns 0, or -errno:
 * EWOULDBLOCK when somebody else holds a lock that excludes this one; ours may be lost then. */
int pc_file_lock(int file, int exclusive);

#endif
