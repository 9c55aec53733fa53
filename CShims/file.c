#include "pc_file.h"

#include <errno.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

int pc_file_describe(int file, struct pc_file *found)
{
    struct stat status;
    struct statfs system;
    if (fstat(file, &status) != 0 || fstatfs(file, &system) != 0)
        return -errno;
    int is_huge = system.f_type == HUGETLBFS_MAGIC;
    found->length = (uint64_t)status.st_size;
    found->huge_page = is_huge ? (uint64_t)system.f_bsize : 0;
    found->is_regular = S_ISREG(status.st_mode);
    found->is_memory = is_huge || system.f_type == TMPFS_MAGIC;
    return 0;
}

int64_t pc_file_map(int file, uint64_t length)
{
    void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return address == MAP_FAILED ? -errno : (int64_t)(uintptr_t)address;
}

int pc_file_lock(int file, int exclusive)
{
    return flock(file, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0 ? 0 : -errno;
}

int pc_file_map_content(int file, uint64_t offset, uint64_t length, uint64_t address)
{
    void *mapped = mmap(
        (void *)(uintptr_t)address, length, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, (off_t)offset);
    return mapped == MAP_FAILED ? -errno : 0;
}

int64_t pc_file_seek(int file, uint64_t from, int hole)
{
    off_t found = lseek(file, (off_t)from, hole ? SEEK_HOLE : SEEK_DATA);
    return found < 0 ? -errno : found;
}

int pc_file_rename_new(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, RENAME_NOREPLACE) == 0 ? 0 : -errno;
}
