/* Files that guest memory is mapped from, and files that it is kept in. */
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

/* Maps `length` bytes of a file from `offset` on over what is mapped at `address`, for this process
 * alone: the file is read and never written. All three are multiples of a page. Returns 0, or -errno. */
int pc_file_map_content(int file, uint64_t offset, uint64_t length, uint64_t address);

/* Finds where data begins (or, with `hole`, ends) at or behind `from`. Returns the position, or -errno:
 * ENXIO when no data follows, EINVAL where the file system does not tell. */
int64_t pc_file_seek(int file, uint64_t from, int hole);

/* Gives `from` the name `to`, both in open folders, and replaces nothing. Returns 0, or -errno: EEXIST
 * when there is something of that name, EINVAL where the file system cannot promise that. */
int pc_file_rename_new(int from_folder, const char *from, int to_folder, const char *to);

#endif
